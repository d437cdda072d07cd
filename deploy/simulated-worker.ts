import { openSimulatedPlatform, simulatedAttester } from '../attestation/insecure/index.ts';
import { CfnError } from '../proto/index.ts';
import { runWorker } from '../runtime/index.ts';
import { measureWorker } from './measure-worker.ts';

/** A worker on the SIMULATED platform: the same code as a real one, with evidence that proves nothing about hardware. */
await runWorker(process.argv.slice(2), async ({ platform }) => {
  if (platform === undefined)
    throw new CfnError('CFN_USAGE', '--platform is missing: the folder of the simulated platform');
  return simulatedAttester(await openSimulatedPlatform(platform), { mrtd: await measureWorker() });
});
