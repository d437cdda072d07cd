import { CfnError, toBase64url } from '../proto/index.ts';
import type { KmsDeps } from './deps.ts';
import { makeNamespaceKey } from './namespace-key.ts';
import type { StoredToken } from './store.ts';
import { makeOwnerToken, tokenDigest } from './tokens.ts';

type OwnerDeps = Pick<KmsDeps, 'store' | 'rootKey' | 'randomBytes' | 'now'>;

/** A token, shown once: only its digest is kept. */
export interface NewToken {
  readonly id: string;
  readonly token: string;
}

/**
 * Adds an owner: a namespace with a key and one token of its own.
 *
 * @throws {CfnError} `CFN_CONFLICT` when the name is taken; what the root key throws
 */
export async function addOwner(name: string, deps: OwnerDeps): Promise<NewToken> {
  if ((await deps.store.owner(name)) !== undefined) throw taken(name);
  const { stored: key } = await makeNamespaceKey(name, 1, deps);
  const { token, stored } = newToken(name, 'admin', deps);
  if (!(await deps.store.addOwner({ name, addedAt: stored.madeAt }, stored, key))) throw taken(name);
  return { id: stored.id, token };
}

/** @throws {CfnError} `CFN_QUOTA_EXCEEDED` */
export async function addToken(owner: string, role: StoredToken['role'], deps: OwnerDeps): Promise<NewToken> {
  const { token, stored } = newToken(owner, role, deps);
  await deps.store.addToken(stored);
  return { id: stored.id, token };
}

function newToken(
  owner: string,
  role: StoredToken['role'],
  { randomBytes, now }: OwnerDeps,
): { readonly token: string; readonly stored: StoredToken } {
  const token = makeOwnerToken(owner, randomBytes);
  const id = toBase64url(randomBytes(9));
  return { token, stored: { id, owner, role, digest: tokenDigest(token), madeAt: now().getTime() } };
}

const taken = (name: string): CfnError => new CfnError('CFN_CONFLICT', `owner ${name} exists`);
