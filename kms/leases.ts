import { CfnError, toBase64url, verifyStatement, type Grant, type SignedManifest } from '../proto/index.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import type { KmsDeps } from './deps.ts';
import {
  isLive,
  type LeaseTerm,
  type NewLease,
  type StatedUse,
  type StoredGrant,
  type StoredLease,
  type StoredModel,
} from './store.ts';

type LeaseDeps = Pick<KmsDeps, 'store' | 'now' | 'randomBytes'>;

/** Under what a lease is given. */
export interface Terms {
  /** What wrapped the key or the secrets that go out. */
  readonly model: Pick<StoredModel, 'keyVersion'>;
  readonly grant: StoredGrant;
  /** Digest of the appraisal policy. */
  readonly policy: string;
}

/**
 * Opens a lease. It is on the disk when this returns, so no key is ever out without one.
 *
 * @throws {CfnError} `CFN_GRANT_MISSING` when the grant was withdrawn meanwhile; `CFN_ALLOWANCE_SPENT`, `CFN_ALLOWANCE_WAITING`
 */
export async function openLease(
  worker: AttestationResult,
  use: SignedManifest,
  under: Terms,
  deps: LeaseDeps,
): Promise<StoredLease> {
  const startedAt = deps.now().getTime();
  const lease: NewLease = {
    ...termOf(worker, under, startedAt),
    id: toBase64url(deps.randomBytes(32)), // unguessable: whoever knows it may ask for its status
    digest: under.grant.digest,
    owner: under.grant.owner,
    keyVersion: under.model.keyVersion,
    tenant: use.manifest.tenant,
    function: use.manifest.name,
    version: use.version,
    worker: worker.workerId,
    receiptKey: worker.workerKeys.receipt.publicKey,
    tee: worker.tee,
    startedAt,
  };
  const opened = await deps.store.addLease(lease);
  if (opened === undefined) throw grantMissing();
  return opened;
}

/**
 * The live lease that this worker may renew for this use, of what its owner granted.
 *
 * @throws {CfnError} `CFN_LEASE_ENDED`, the same for an ended, a revoked, an unknown and somebody else's lease
 */
export async function renewableLease(
  id: string,
  worker: AttestationResult,
  use: SignedManifest,
  { digest, owner }: Pick<StoredLease, 'digest'> & { readonly owner: string | undefined },
  deps: LeaseDeps,
): Promise<StoredLease> {
  const lease = await deps.store.lease(id);
  if (lease === undefined || !isLive(lease, deps.now().getTime())) throw leaseEnded();
  if (lease.worker !== worker.workerId || lease.version !== use.version) throw leaseEnded();
  if (lease.digest !== digest || lease.owner !== owner) throw leaseEnded();
  return lease;
}

/**
 * @param usage what the worker states that it used, if it does
 * @throws {CfnError} `CFN_LEASE_ENDED` when it ended or was revoked meanwhile; `CFN_RECEIPT_INVALID`
 */
export async function extendLease(
  lease: StoredLease,
  worker: AttestationResult,
  under: Terms,
  usage: StatedUse | undefined,
  deps: LeaseDeps,
): Promise<StoredLease> {
  const at = deps.now().getTime();
  const renewed = await deps.store.renewLease(lease.id, termOf(worker, under, at), at, usage);
  if (renewed === undefined) throw leaseEnded();
  return renewed;
}

/**
 * What a worker says that it used under a lease, made for this challenge.
 *
 * @throws {CfnError} `CFN_RECEIPT_INVALID`
 */
export async function statedUse(
  statement: string | undefined,
  challenge: string,
  lease: StoredLease,
  { now }: LeaseDeps,
): Promise<StatedUse | undefined> {
  if (statement === undefined) return undefined;
  const claims = await verifyStatement('cfn-usage+jwt', statement, lease, now());
  if (claims.lease !== lease.id || claims.challenge !== challenge)
    throw new CfnError('CFN_RECEIPT_INVALID', 'the worker states its use of another lease, or at another time');
  return { used: claims.used, statement };
}

/** @returns what is left of a live lease, in ms @throws {CfnError} `CFN_LEASE_ENDED` */
export async function leaseRemainingMs(id: string, deps: LeaseDeps): Promise<number> {
  const lease = await deps.store.lease(id);
  const at = deps.now().getTime();
  if (lease === undefined || !isLive(lease, at)) throw leaseEnded();
  return lease.endsAt - at;
}

/**
 * Revokes a lease; to revoke an ended one again changes nothing.
 *
 * @param owner revokes own leases only; `undefined`: the administrator, any
 * @throws {CfnError} `CFN_NOT_FOUND`, the same for an unknown lease and another owner's
 */
export async function revokeLease(id: string, owner: string | undefined, deps: LeaseDeps): Promise<void> {
  const lease = await deps.store.lease(id);
  if (lease === undefined || (owner !== undefined && lease.owner !== owner))
    throw new CfnError('CFN_NOT_FOUND', 'there is no such lease');
  await deps.store.revokeLease(id, deps.now().getTime());
}

/** @throws {CfnError} `CFN_LEASE_ENDED` when there never was such a lease; `CFN_RECEIPT_INVALID` */
export async function acceptDropped(id: string, statement: string, deps: LeaseDeps): Promise<void> {
  const lease = await deps.store.lease(id);
  if (lease === undefined) throw leaseEnded();
  const claims = await verifyStatement('cfn-key-dropped+jwt', statement, lease, deps.now());
  if (claims.lease !== id) throw new CfnError('CFN_RECEIPT_INVALID', 'the statement is of another lease');
  await deps.store.dropLease(id, statement, deps.now().getTime(), claims.used);
}

export const grantMissing = (): CfnError =>
  new CfnError('CFN_GRANT_MISSING', 'no grant covers this function and model');
const leaseEnded = (): CfnError =>
  new CfnError('CFN_LEASE_ENDED', 'the lease has ended, was revoked, or is not of this worker and use');

/** A lease outlives neither its grant nor the worker keys that the evidence bound. */
function termOf(worker: AttestationResult, { grant, policy }: Terms, at: number): LeaseTerm {
  const { leaseMs, until }: Grant = grant.grant;
  const endsAt = Math.min(at + leaseMs, Date.parse(until), Date.parse(worker.workerKeys.notAfter));
  if (endsAt <= at) throw grantMissing();
  return { grant: grant.id, endsAt, evidence: worker.evidenceDigest, policy };
}
