import { CfnError, frame, sha256Hex, utf8, type Grant, type SignedManifest } from '../proto/index.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import type { KmsDeps } from './deps.ts';
import { unmetDemands } from './demands.ts';
import { grantMissing } from './leases.ts';
import { GRANTS_MAX } from './limits.ts';
import type { StoredGrant } from './store.ts';

/** A model as its owner knows it. */
export interface ModelKey {
  readonly digest: string;
  readonly owner: string;
}

/**
 * Grants a function the use of a model. The same tenant, function, author and version again replaces term and lease.
 *
 * @throws {CfnError} `CFN_MODEL_NOT_FOUND` when the owner has stored no such model; `CFN_CONFLICT` at the limit of grants
 */
export async function putGrant(
  key: ModelKey,
  grant: Grant,
  deps: Pick<KmsDeps, 'store' | 'now'>,
): Promise<StoredGrant> {
  await demandModel(key, deps);
  const stored: StoredGrant = { ...key, id: await grantId(key, grant), grant, grantedAt: deps.now().getTime() };
  const present = await deps.store.grants(key.digest, key.owner);
  if (present.length >= GRANTS_MAX && !present.some(({ id }) => id === stored.id)) {
    throw new CfnError('CFN_CONFLICT', `the model has ${GRANTS_MAX} grants, the most it may have; remove one`);
  }
  await deps.store.putGrant(stored);
  return stored;
}

/** @throws {CfnError} `CFN_MODEL_NOT_FOUND`, the same for an unknown model and another owner's */
export async function demandModel({ digest, owner }: ModelKey, deps: Pick<KmsDeps, 'store'>): Promise<void> {
  if ((await deps.store.model(digest, owner)) === undefined) {
    throw new CfnError('CFN_MODEL_NOT_FOUND', `${owner} has stored no key of model ${digest}`);
  }
}

/**
 * The grant under which a function may use a model now: the narrowest that matches (a version before an author before
 * neither), so that an owner can give one version other terms; among equals the one that lasts longest.
 *
 * @throws {CfnError} `CFN_GRANT_MISSING`; `CFN_GRANT_UNMET` when the grant demands another TEE, GPU or image
 */
export async function findGrant(
  model: ModelKey,
  use: SignedManifest,
  worker: AttestationResult,
  { store, now }: Pick<KmsDeps, 'store' | 'now'>,
): Promise<StoredGrant> {
  const at = now().getTime();
  const [found] = (await store.grants(model.digest, model.owner))
    .filter(({ grant }) => covers(grant, use, at))
    .toSorted(
      (a, b) => narrowness(b.grant) - narrowness(a.grant) || Date.parse(b.grant.until) - Date.parse(a.grant.until),
    );
  if (found === undefined) throw grantMissing();
  const unmet = unmetDemands(found.grant, worker);
  if (unmet.length > 0) throw new CfnError('CFN_GRANT_UNMET', `the owner's grant demands ${unmet.join(', ')}`);
  return found;
}

/**
 * Tenant and name are the author's own word: anybody can sign a manifest that says them. Only a grant with `author` or
 * `version` is proof against an operator who deploys code of their own under another tenant's name.
 */
export function covers(grant: Grant, { manifest, author, version }: SignedManifest, at: number): boolean {
  return (
    grant.tenant === manifest.tenant &&
    grant.function === manifest.name &&
    (grant.author === undefined || grant.author === author) &&
    (grant.version === undefined || grant.version === version) &&
    Date.parse(grant.until) > at
  );
}

const narrowness = (grant: Grant): number =>
  (grant.version === undefined ? 0 : 2) + (grant.author === undefined ? 0 : 1);

async function grantId({ digest, owner }: ModelKey, grant: Grant): Promise<string> {
  const { tenant, author = '', version = '' } = grant;
  const parts = [digest, owner, tenant, grant.function, author, version].map(utf8);
  return (await sha256Hex(frame('cfn/grant/v1', ...parts))).slice(0, 32);
}
