import { CfnError, fromBase64url, kmsNonce, toCfnError, wrappedKeyInfo } from '../proto/index.ts';
import type { AuditEntry, ReleaseReply, ReleaseRequest, Sealed, SignedManifest } from '../proto/index.ts';
import { sealToInNode } from '../proto/node.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import type { KmsDeps } from './deps.ts';
import { findGrant } from './grants.ts';
import { DEFAULT_QUOTAS } from './limits.ts';
import { extendLease, grantMissing, openLease, renewableLease, statedUse, type Terms } from './leases.ts';
import { withdrawn } from './models.ts';
import { unwrapDataKey } from './namespace-key.ts';
import type { KnownPolicy } from './policies.ts';
import type { StoredLease, StoredModel } from './store.ts';

/** What is known of a release so far, for the note of a refusal. Only verified facts go in. */
export type Known = {
  -readonly [K in 'digest' | 'worker' | 'tenant' | 'function' | 'version' | 'lease']?: Exclude<
    AuditEntry[K],
    undefined
  >;
};

/** What is asked for, before anything is known of who asks. */
interface Claim {
  readonly use: SignedManifest;
  /** Whether the author's manifest names the model. */
  readonly declared: boolean;
  /** The stored model that the manifest means. */
  readonly model: StoredModel | undefined;
  readonly policy: KnownPolicy;
}

/**
 * Releases a model's data key to an attested worker, or renews its lease (design §5). Every outcome is in the audit log. Consent of
 * the function's author is in the manifest, that of the model's owner in a grant; a worker whose evidence was not accepted is not told
 * what there is.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID`, `CFN_MANIFEST_ALTERED`, `CFN_MODEL_UNDECLARED`, what {@link appraise} throws,
 *   `CFN_GRANT_MISSING` (the same for an unknown model), `CFN_GRANT_UNMET`, `CFN_WITHDRAWN`, `CFN_ALLOWANCE_SPENT`,
 *   `CFN_ALLOWANCE_WAITING`, `CFN_LEASE_ENDED`, `CFN_RECEIPT_INVALID`, `CFN_BUSY`, what the root key throws, `CFN_STORE_FAILED`
 */
export async function release(request: ReleaseRequest, deps: KmsDeps): Promise<ReleaseReply> {
  const known: Known = { digest: request.model };
  let owner = '';
  try {
    deps.challenges.take(request.challenge);
    const claim = await readClaim(request, deps);
    owner = claim.model?.owner ?? '';
    const worker = await appraiseWorker(request, claim.policy, deps);
    noteUse(known, worker, claim.use);
    if (request.renew !== undefined) return await renew(request.renew, request, worker, claim, deps, known);
    const terms = await demandConsent(claim, worker, deps);
    const wrappedKey = await wrapForEngine(terms.model, request, deps);
    const lease = await openLease(worker, claim.use, terms, deps);
    return { ...(await replyOf(lease, deps)), wrappedKey };
  } catch (error) {
    await deps.refusals.note(owner, toCfnError(error).code, known);
    throw error;
  }
}

/**
 * The function that will use the model, from what its author signed, and the model that it means. The manifest names model and owner,
 * so that a record which another owner made for the same digest is never looked at.
 */
async function readClaim(request: ReleaseRequest, { store, policies, manifests }: KmsDeps): Promise<Claim> {
  const use = await manifests.verify(request.functionManifest);
  const named = use.manifest.models.filter(({ digest }) => digest === request.model);
  for (const { digest, model: reference } of named) {
    const model = await store.model(digest, reference.split('/', 1)[0] ?? '');
    if (model?.model === reference) return { use, declared: true, model, policy: await policies.of(model.owner) };
  }
  return { use, declared: named.length > 0, model: undefined, policy: await policies.of(undefined) };
}

/** The evidence must answer this challenge and bind wrapping key, model and function manifest: all four are in the nonce. */
async function appraiseWorker(
  request: ReleaseRequest,
  { policy }: KnownPolicy,
  deps: KmsDeps,
): Promise<AttestationResult> {
  fromBase64url(request.wrappingKey); // canonical, so that one key has one nonce
  const nonce = await kmsNonce(request.challenge, request.wrappingKey, request.model, request.functionManifest);
  return deps.appraise(request.evidence, { nonce, policy, now: deps.now() });
}

export function noteUse(known: Known, { workerId }: AttestationResult, { manifest, version }: SignedManifest): void {
  known.worker = workerId;
  known.tenant = manifest.tenant;
  known.function = manifest.name;
  known.version = version;
}

/** All that must agree now, beside the worker's evidence. */
async function demandConsent(
  { use, declared, model, policy }: Claim,
  worker: AttestationResult,
  deps: KmsDeps,
): Promise<Terms & { readonly model: StoredModel }> {
  if ((await deps.store.withdrawal(use.version)) !== undefined)
    throw new CfnError('CFN_WITHDRAWN', 'the author has withdrawn this function version');
  if (!declared) throw new CfnError('CFN_MODEL_UNDECLARED', 'the function manifest does not name this model');
  if (model === undefined) throw grantMissing();
  const grant = await findGrant(model, use, worker, deps);
  if (model.withdrawnAt !== undefined) throw withdrawn(); // said to those only who may know of the model
  const { quotas = DEFAULT_QUOTAS } = (await deps.store.owner(model.owner)) ?? {};
  if (!deps.rates.take(model.owner, quotas.releasesPerMinute))
    throw new CfnError(
      'CFN_BUSY',
      `the namespace has had ${quotas.releasesPerMinute} releases this minute, the most it may have`,
    );
  return { model, grant, policy: policy.digest };
}

/** The data key, sealed to the engine's wrapping key, which the evidence bound. */
async function wrapForEngine(model: StoredModel, request: ReleaseRequest, deps: KmsDeps): Promise<Sealed> {
  const dataKey = await unwrapDataKey(model, deps);
  try {
    return await sealToInNode(request.wrappingKey, dataKey, wrappedKeyInfo(model.digest, request.challenge));
  } finally {
    dataKey.fill(0);
  }
}

/** A new appraisal for a live lease of the same worker, model and function version. No key is in the answer. */
async function renew(
  id: string,
  request: ReleaseRequest,
  worker: AttestationResult,
  claim: Claim,
  deps: KmsDeps,
  known: Known,
): Promise<ReleaseReply> {
  const lease = await renewableLease(id, worker, claim.use, { digest: request.model, owner: claim.model?.owner }, deps);
  known.lease = lease.id;
  const usage = await statedUse(request.usage, request.challenge, lease, deps);
  return replyOf(await extendLease(lease, worker, await demandConsent(claim, worker, deps), usage, deps), deps);
}

export async function replyOf(lease: StoredLease, { store, now }: KmsDeps): Promise<ReleaseReply> {
  const at = now().getTime();
  const { id, endsAt, policy, used, allowed } = lease;
  if (endsAt <= at) throw new CfnError('CFN_LEASE_ENDED', 'the lease ended while it was recorded');
  const reply = { lease: id, leaseMs: endsAt - at, policy };
  if (allowed === undefined) return reply;
  // Nothing to be had now: for good, or until others give back what they hold?
  const spent = allowed === used && (await store.count(lease.grant, at)).outstanding === 0;
  return { ...reply, allowed, ...(spent && { spent }) };
}
