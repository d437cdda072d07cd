import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openSimulatedPlatform, simulatedAttester } from '../../attestation/insecure/index.ts';
import { MRTD } from '../../gateway/testkit.ts';
import { throwawayWorker } from '../../gateway/worker.testkit.ts';

// Workers that open nothing and give back the bytes that came, in a process of their own.
const { values } = parseArgs({
  options: {
    platform: { type: 'string', default: '' },
    certificate: { type: 'string', default: '' },
    count: { type: 'string', default: '1' },
  },
});
const platform = await openSimulatedPlatform(values.platform);
const gatewayCertificatePem = readFileSync(values.certificate, 'utf8');
const addresses: string[] = [];
for (let i = 0; i < Number(values.count); i++) {
  const worker = await throwawayWorker({
    attester: simulatedAttester(platform, { mrtd: MRTD }),
    gatewayCertificatePem,
    run: () => ({ status: 200, body: [] }),
    blind: true,
    onLoad: ({ version }) => worker.tell({ inflight: 0, capacity: 4_096, versions: [{ version }] }),
  });
  addresses.push(worker.address);
}
process.stdout.write(`${JSON.stringify({ ready: true, addresses })}\n`);
