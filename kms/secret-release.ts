import {
  CfnError,
  encodeSecrets,
  fromBase64url,
  secretsId,
  secretsNonce,
  toCfnError,
  wrappedSecretsInfo,
  type Sealed,
  type SecretsReply,
  type SecretsRequest,
  type SignedManifest,
} from '../proto/index.ts';
import { sealToInNode } from '../proto/node.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import type { KmsDeps } from './deps.ts';
import { extendLease, openLease, renewableLease, type Terms } from './leases.ts';
import { DEFAULT_QUOTAS } from './limits.ts';
import { unwrapFunctionSecrets } from './namespace-key.ts';
import type { KnownPolicy } from './policies.ts';
import { noteUse, replyOf, type Known } from './release.ts';
import type { StoredFunctionSecret, StoredSecretSet } from './store.ts';

/** What is asked for, before anything is known of who asks. */
interface Claim {
  readonly use: SignedManifest;
  readonly names: readonly string[];
  readonly set: StoredSecretSet | undefined;
  readonly policy: KnownPolicy;
}

/**
 * Releases a function's secrets to an attested worker that runs it, or renews the lease. Which of them, the manifest says; to whom, their
 * owner: only what one author signed gets what was put for that author.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID`, `CFN_MANIFEST_ALTERED`, what {@link appraise} throws, `CFN_SECRET_MISSING` (the same for
 *   one that there is not and one for another author or version), `CFN_WITHDRAWN`, `CFN_LEASE_ENDED`, `CFN_BUSY`, what the root key throws
 */
export async function releaseSecrets(request: SecretsRequest, deps: KmsDeps): Promise<SecretsReply> {
  const known: Known = {};
  let owner = '';
  try {
    deps.challenges.take(request.challenge);
    const claim = await readClaim(request, deps);
    owner = claim.set?.owner ?? '';
    if (claim.set !== undefined) known.digest = claim.set.id;
    const worker = await appraiseWorker(request, claim.policy, deps);
    noteUse(known, worker, claim.use);
    const { secrets, terms } = await demandConsent(claim, worker, deps);
    if (request.renew !== undefined) {
      const lease = await renewableLease(request.renew, worker, claim.use, terms.grant, deps);
      known.lease = lease.id;
      return replyOf(await extendLease(lease, worker, terms, undefined, deps), deps);
    }
    const wrapped = await wrapForSandbox(secrets, terms.grant.owner, claim.use.version, request, deps);
    const lease = await openLease(worker, claim.use, terms, deps).catch(changedMeanwhile);
    return { ...(await replyOf(lease, deps)), wrapped };
  } catch (error) {
    await deps.refusals.note(owner, toCfnError(error).code, known);
    throw error;
  }
}

async function readClaim(request: SecretsRequest, { store, policies, manifests, sealingKey }: KmsDeps): Promise<Claim> {
  const use = await manifests.verify(request.functionManifest);
  const { secrets, tenant, name } = use.manifest;
  // A manifest that names another KMS means other secrets.
  const here = secrets?.kms.publicKey === sealingKey.publicKey;
  const set = here ? await store.functionSecrets(await secretsId(secrets.owner, tenant, name)) : undefined;
  return { use, names: secrets?.names ?? [], set, policy: await policies.of(set?.owner) };
}

/** The evidence must answer this challenge and bind wrapping key and function manifest: all three are in the nonce. */
async function appraiseWorker(
  request: SecretsRequest,
  { policy }: KnownPolicy,
  deps: KmsDeps,
): Promise<AttestationResult> {
  fromBase64url(request.wrappingKey); // canonical, so that one key has one nonce
  const nonce = await secretsNonce(request.challenge, request.wrappingKey, request.functionManifest);
  return deps.appraise(request.evidence, { nonce, policy, now: deps.now() });
}

async function demandConsent(
  { use, names, set, policy }: Claim,
  worker: AttestationResult,
  deps: KmsDeps,
): Promise<{ readonly secrets: readonly StoredFunctionSecret[]; readonly terms: Terms }> {
  if ((await deps.store.withdrawal(use.version)) !== undefined)
    throw new CfnError('CFN_WITHDRAWN', 'the author has withdrawn this function version');
  const secrets = names.map((name) => {
    const found = set?.secrets.find((secret) => secret.name === name);
    const covers = found?.author === use.author && (found.version ?? use.version) === use.version;
    if (found === undefined || !covers) throw missing(name);
    return found;
  });
  const [first] = secrets;
  if (set === undefined || first === undefined) throw missing('');
  const { owner, tenant } = set;
  const { quotas = DEFAULT_QUOTAS } = (await deps.store.owner(owner)) ?? {};
  if (!deps.rates.take(owner, quotas.releasesPerMinute))
    throw new CfnError(
      'CFN_BUSY',
      `the namespace has had ${quotas.releasesPerMinute} releases this minute, the most it may have`,
    );
  // What was put is the owner's consent. It stands as long as nothing is put or deleted.
  const grant = {
    id: set.revision,
    digest: set.id,
    owner,
    grant: {
      tenant,
      function: set.function,
      leaseMs: Math.min(...secrets.map(({ leaseMs }) => leaseMs)),
      until: worker.workerKeys.notAfter,
    },
    grantedAt: first.storedAt,
  };
  return { secrets, terms: { model: first, grant, policy: policy.digest } };
}

/** The secrets, sealed to the sandbox's wrapping key, which the evidence bound. */
async function wrapForSandbox(
  secrets: readonly StoredFunctionSecret[],
  owner: string,
  version: string,
  { wrappingKey, challenge }: SecretsRequest,
  deps: KmsDeps,
): Promise<Sealed> {
  const values = await unwrapFunctionSecrets(owner, secrets, deps);
  const bytes = encodeSecrets(values);
  try {
    return await sealToInNode(wrappingKey, bytes, wrappedSecretsInfo(version, challenge));
  } finally {
    for (const value of [bytes, ...values.values()]) value.fill(0);
  }
}

const missing = (name: string): CfnError =>
  new CfnError(
    'CFN_SECRET_MISSING',
    `the KMS has no secret ${name} for this function, author and version`.replace('  ', ' '),
  );

function changedMeanwhile(error: unknown): never {
  if (toCfnError(error).code !== 'CFN_GRANT_MISSING') throw error;
  throw new CfnError('CFN_BUSY', "the function's secrets were changed meanwhile");
}
