import { randomBytes } from 'node:crypto';
import { endorsementsFile, openAttester, type Attester } from '../attestation/attester/index.ts';
import { CfnError, NO_WORKER_KEYS } from '../proto/index.ts';
import { runWorker } from './index.ts';

/**
 * A worker inside a TDX or SEV-SNP guest. `--gpu` says whether GPU evidence belongs to it: with `required` every GPU of the VM is
 * asked, with `none` it gives CPU evidence only, and a policy that demands a GPU refuses it. Nothing is guessed from what is there,
 * because the host decides that. Outside a TEE it does not start (`CFN_TEE_ABSENT`), nor without every layer of the jail
 * (`CFN_JAIL_INCOMPLETE`); no flag changes that.
 */
const attesterOf: Parameters<typeof runWorker>[1] = async ({ gpu, endorsements }): Promise<Attester> => {
  if (gpu !== 'required' && gpu !== 'none')
    throw new CfnError(
      'CFN_USAGE',
      `--gpu is ${gpu ?? 'missing'}: required, or none for a worker of CPU evidence only`,
    );
  const attester = await openAttester({
    gpu,
    ...(endorsements !== undefined && { endorsements: endorsementsFile(endorsements) }),
  });
  await attester.collect(randomBytes(32), NO_WORKER_KEYS); // no evidence, no worker
  return attester;
};
await runWorker(process.argv.slice(2), attesterOf, 'required');
