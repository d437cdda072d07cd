import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openSimulatedPlatform, simulatedAttester } from '../../attestation/insecure/index.ts';
import { MRTD } from '../../gateway/testkit.ts';
import { throwawayWorker } from '../../gateway/worker.testkit.ts';
import { concatBytes, utf8 } from '../../proto/index.ts';

// A worker as a process that can be killed, frozen and cut off. It answers with the digest of what came, and writes down every request that
// reached it. It fails its challenges while the file `--failing` is there, with `--foreign` has measurements that nobody accepts, and with
// `--lying` says that it loaded something else than it was given.
const { values } = parseArgs({
  options: {
    platform: { type: 'string', default: '' },
    certificate: { type: 'string', default: '' },
    reached: { type: 'string', default: '' },
    failing: { type: 'string', default: '' },
    foreign: { type: 'boolean', default: false },
    lying: { type: 'boolean', default: false },
  },
});
const mrtd = values.foreign ? new Uint8Array(48).fill(9) : MRTD;
const { address, workerId } = await throwawayWorker({
  attester: simulatedAttester(await openSimulatedPlatform(values.platform), { mrtd }),
  gatewayCertificatePem: readFileSync(values.certificate, 'utf8'),
  tamper: (evidence) => (existsSync(values.failing) ? { ...evidence, quote: altered(evidence.quote) } : evidence),
  claimedVersion: (version) => (values.lying ? version.replace(/./g, '0') : version),
  async run({ body, path }) {
    appendFileSync(values.reached, `${JSON.stringify({ path, at: Date.now() })}\n`);
    const delayMs = Number(/wait=(\d+)/.exec(path)?.[1] ?? 0);
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    const large = Number(/large=(\d+)/.exec(path)?.[1] ?? 0);
    if (large > 0) return { status: 200, body: zeros(large) };
    const digest = createHash('sha256').update(concatBytes(body)).digest('hex');
    return { status: 200, body: [utf8(digest)] };
  },
});
process.stdout.write(`${JSON.stringify({ ready: true, address, workerId })}\n`);

/** One bit of the signed part is another. */
function altered(quote: string): string {
  const bytes = Buffer.from(quote, 'base64url');
  bytes[200] = (bytes[200] ?? 0) ^ 1;
  return bytes.toString('base64url');
}

function* zeros(bytes: number): Iterable<Uint8Array> {
  for (let left = bytes; left > 0; left -= 65_536) yield new Uint8Array(Math.min(left, 65_536));
}
