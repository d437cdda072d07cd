import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeWorkerKeys, fromBase64url, toBase64url, type Evidence } from '../proto/index.ts';
import { openSimulatedPlatform, simulatedAttester, simulatedPolicy } from './insecure/index.ts';

/** What the appraisal tests begin from: a simulated machine, and evidence of it that is accepted at `now`. */
export async function appraisalFixture() {
  const directory = await mkdtemp(join(tmpdir(), 'cfn-attestation-'));
  const platform = await openSimulatedPlatform(directory);
  const mrtd = new Uint8Array(48).fill(7);
  const nonce = new Uint8Array(32).fill(9);
  const now = new Date('2026-11-01T00:00:00Z');
  const keys = workerKeys('2026-11-02T00:00:00Z');
  const attester = simulatedAttester(platform, { mrtd });
  const policy = await simulatedPolicy(platform, { mrtd });
  const evidence = await attester.collect(nonce, keys);
  const close = (): Promise<void> => rm(directory, { recursive: true });
  return { directory, platform, mrtd, nonce, now, keys, attester, policy, evidence, close };
}

/** A worker keys document; the keys are only formally keys. */
export function workerKeys(notAfter: string, seed = 1): Uint8Array<ArrayBuffer> {
  return encodeWorkerKeys({
    format: 'cfn/worker-keys/v1',
    tls: { spki: '00'.repeat(32) },
    ohttp: { config: toBase64url(new Uint8Array(41).fill(seed)) },
    receipt: { publicKey: toBase64url(new Uint8Array(32).fill(seed)) },
    notAfter,
  });
}

/** The evidence with its quote changed in place. */
export function withQuote(evidence: Evidence, change: (quote: Uint8Array) => Uint8Array | void): Evidence {
  const quote = fromBase64url(evidence.quote);
  return { ...evidence, quote: toBase64url(change(quote) ?? quote) };
}

/** The evidence with its first GPU changed. */
export function withGpu(
  evidence: Evidence,
  change: (gpu: Evidence['gpus'][number]) => Evidence['gpus'][number],
): Evidence {
  return { ...evidence, gpus: evidence.gpus.map((gpu, index) => (index === 0 ? change(gpu) : gpu)) };
}

export function flip(bytes: Uint8Array, at: number): void {
  bytes[at] = (bytes[at] ?? 0) ^ 1;
}
