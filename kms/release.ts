import {
  CfnError,
  fromBase64url,
  kmsNonce,
  sealTo,
  toCfnError,
  verifyManifest,
  wrappedKeyInfo,
} from '../proto/index.ts';
import type { ReleaseReply, ReleaseRequest, Sealed, SignedManifest } from '../proto/index.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import type { KmsDeps } from './deps.ts';
import { matchGrant } from './grants.ts';
import { dataKeyContext } from './keyring.ts';
import { extendLease, grantMissing, openLease, renewableLease } from './leases.ts';
import type { AuditEntry, StoredGrant, StoredLease, StoredModel } from './store.ts';

/** What is known of a release so far, for the note of a refusal. Only verified facts go in. */
type Known = {
  -readonly [K in 'digest' | 'worker' | 'tenant' | 'function' | 'version' | 'lease']?: Exclude<
    AuditEntry[K],
    undefined
  >;
};

/**
 * Releases a model's data key to an attested worker, or renews its lease (design §5). Every outcome is in the audit trail.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID`, what {@link appraise} throws, `CFN_MANIFEST_ALTERED`, `CFN_GRANT_MISSING` (the same
 *   for an unknown model), `CFN_LEASE_ENDED`, `CFN_KEYRING_ALTERED`, `CFN_STORE_FAILED`
 */
export async function release(request: ReleaseRequest, deps: KmsDeps): Promise<ReleaseReply> {
  const known: Known = { digest: request.model };
  try {
    deps.challenges.take(request.challenge);
    const worker = await appraiseWorker(request, deps, known);
    const use = await verifyUse(request, known);
    if (request.renew !== undefined) return await renew(request.renew, request, worker, use, deps, known);
    const { model, grant } = await findGrant(request.model, use, deps);
    const wrappedKey = await wrapDataKey(model, request, deps);
    const lease = await openLease(worker, use, grant, deps);
    return { ...replyOf(lease, deps), wrappedKey };
  } catch (error) {
    await deps.store.addRefusal({ ...known, at: deps.now().getTime(), code: toCfnError(error).code });
    throw error;
  }
}

/**
 * The evidence must answer this challenge and bind wrapping key, model and function manifest: all four are in the nonce.
 */
async function appraiseWorker(request: ReleaseRequest, deps: KmsDeps, known: Known): Promise<AttestationResult> {
  fromBase64url(request.wrappingKey); // canonical, so that one key has one nonce
  const nonce = await kmsNonce(request.challenge, request.wrappingKey, request.model, request.functionManifest);
  const worker = await deps.appraise(request.evidence, { nonce, policy: deps.policy, now: deps.now() });
  known.worker = worker.workerId;
  return worker;
}

/** The function that will use the model, from what its author signed. */
async function verifyUse(request: ReleaseRequest, known: Known): Promise<SignedManifest> {
  const use = await verifyManifest(request.functionManifest);
  known.tenant = use.manifest.tenant;
  known.function = use.manifest.name;
  known.version = use.version;
  if (!use.manifest.models.some(({ digest }) => digest === request.model)) {
    throw new CfnError('CFN_GRANT_MISSING', 'the function manifest does not name this model');
  }
  return use;
}

/**
 * The stored model that the manifest means, and a grant for this use. The manifest names model and owner, so that a record
 * which another owner made for the same digest is never looked at.
 */
async function findGrant(
  digest: string,
  use: SignedManifest,
  { store, now }: KmsDeps,
): Promise<{ model: StoredModel; grant: StoredGrant }> {
  for (const named of use.manifest.models.filter((entry) => entry.digest === digest)) {
    const owner = named.model.split('/', 1)[0] ?? '';
    const model = await store.model(digest, owner);
    const grant = matchGrant(await store.grants(digest, owner), use, now().getTime());
    if (model?.model === named.model && grant !== undefined) return { model, grant };
  }
  throw grantMissing();
}

/** The data key, sealed to the engine's wrapping key, which the evidence bound. */
async function wrapDataKey(
  { digest, owner, wrappedKey }: StoredModel,
  request: ReleaseRequest,
  deps: KmsDeps,
): Promise<Sealed> {
  const dataKey = deps.keyring.unwrap(wrappedKey, dataKeyContext(digest, owner));
  try {
    return await sealTo(request.wrappingKey, dataKey, wrappedKeyInfo(digest, request.challenge));
  } finally {
    dataKey.fill(0);
  }
}

/** A new appraisal for a live lease of the same worker, model and function version. No key is in the answer. */
async function renew(
  id: string,
  request: ReleaseRequest,
  worker: AttestationResult,
  use: SignedManifest,
  deps: KmsDeps,
  known: Known,
): Promise<ReleaseReply> {
  const lease = await renewableLease(id, worker, use, request.model, deps);
  known.lease = lease.id;
  const { grant } = await findGrant(request.model, use, deps);
  return replyOf(await extendLease(lease, worker, grant, deps), deps);
}

function replyOf(lease: StoredLease, { now }: KmsDeps): ReleaseReply {
  const leaseMs = lease.endsAt - now().getTime();
  if (leaseMs <= 0) throw new CfnError('CFN_LEASE_ENDED', 'the lease ended while it was recorded');
  return { lease: lease.id, leaseMs, policy: lease.policy };
}
