import { randomBytes } from 'node:crypto';
import { endorsementsFile, openAttester, type Attester } from '../attestation/attester/index.ts';
import { endorseEvidence, vendorServices } from '../attestation/collateral/index.ts';
import { CfnError, NO_WORKER_KEYS } from '../proto/index.ts';
import { runWorker } from './index.ts';

/** Time for one answer of a vendor's service, in ms: a challenge is to be answered within ten seconds, the quote included. */
const VENDOR_MS_MAX = 2_000;

/**
 * A worker inside a TDX or SEV-SNP guest. `--gpu` says whether GPU evidence belongs to it: with `required` every GPU of the VM is
 * asked, with `none` it gives CPU evidence only, and a policy that demands a GPU refuses it. Nothing is guessed from what is there,
 * because the host decides that. Outside a TEE it does not start (`CFN_TEE_ABSENT`), nor without every layer of the jail
 * (`CFN_JAIL_INCOMPLETE`); no flag changes that.
 *
 * Endorsements come from a file that others renew (`--endorsements`), from vendors' services (`--pccs`, `--kds`, `--rim`, `--ocsp`),
 * or both.
 */
const attesterOf: Parameters<typeof runWorker>[1] = async ({ gpu, endorsements, ...urls }): Promise<Attester> => {
  if (gpu !== 'required' && gpu !== 'none')
    throw new CfnError(
      'CFN_USAGE',
      `--gpu is ${gpu ?? 'missing'}: required, or none for a worker of CPU evidence only`,
    );
  const file = endorsements === undefined ? undefined : endorsementsFile(endorsements);
  const services = vendorServices({ urls, fetch, timeoutMs: VENDOR_MS_MAX, now: () => new Date() });
  const attester = await openAttester({
    gpu,
    endorsements: async (collected) => endorseEvidence(collected, services, await file?.()),
  });
  await attester.collect(randomBytes(32), NO_WORKER_KEYS); // no evidence, no worker
  return attester;
};
await runWorker(process.argv.slice(2), attesterOf, 'required');
