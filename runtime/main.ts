import { randomBytes } from 'node:crypto';
import { tdxAttester } from '../attestation/attester/index.ts';
import { runWorker } from './index.ts';

/**
 * A worker inside a TDX guest. It gives CPU evidence only: a policy that demands a GPU refuses it, because nothing here
 * reads NVML yet. Outside a TEE it does not start (`CFN_TEE_ABSENT`).
 */
await runWorker(process.argv.slice(2), async () => {
  const attester = tdxAttester({ collectGpus: async () => [] });
  await attester.collect(randomBytes(32), new Uint8Array(0)); // no quote, no worker
  return attester;
});
