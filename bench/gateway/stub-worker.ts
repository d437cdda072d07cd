import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { openSimulatedPlatform, simulatedAttester } from '../../attestation/insecure/index.ts';
import { MRTD } from '../../gateway/testkit.ts';
import { throwawayWorker } from '../../gateway/worker.testkit.ts';

// A worker that opens nothing and gives back the bytes that came, in a process of its own.
const { values } = parseArgs({ options: { platform: { type: 'string' }, certificate: { type: 'string' } } });
const { address } = await throwawayWorker({
  attester: simulatedAttester(await openSimulatedPlatform(values.platform ?? ''), { mrtd: MRTD }),
  gatewayCertificatePem: readFileSync(values.certificate ?? '', 'utf8'),
  run: () => ({ status: 200, body: [] }),
  blind: true,
});
process.stdout.write(`${JSON.stringify({ ready: true, address })}\n`);
