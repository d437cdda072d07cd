import { createHash, timingSafeEqual } from 'node:crypto';
import { CfnError, nameSchema, toBase64url } from '../proto/index.ts';
import { makeSecretFile, readSecretFile } from './secret-file.ts';
import type { OwnerStore, StoredToken } from './store.ts';

/** Who makes a call. Only {@link identify} says so. */
export type Caller =
  { readonly role: 'admin' } | { readonly role: 'owner'; readonly owner: string; readonly access: StoredToken['role'] };

const TOKEN_BYTES = 32;
const TOKEN_FILE_BYTES_MAX = 128;

/** SHA-256 is enough to keep a token of 256 random bits: there is nothing to guess. */
export const tokenDigest = (token: string): Buffer => createHash('sha256').update(token).digest();

/** An owner's token is `name.secret`: the name finds the record, so that the secret is compared and never looked up. */
export function makeOwnerToken(owner: string, randomBytes: (length: number) => Uint8Array): string {
  return `${owner}.${toBase64url(randomBytes(TOKEN_BYTES))}`;
}

/**
 * Reads the administrator's token from its file, or makes the file. Removing the file and starting again changes the token.
 *
 * @returns the token's SHA-256
 * @throws {CfnError} `CFN_SECRET_EXPOSED`, `CFN_STORE_FAILED`
 */
export function openAdminToken(path: string, randomBytes: (length: number) => Uint8Array): Buffer {
  const bytes = readSecretFile(path, TOKEN_FILE_BYTES_MAX);
  if (bytes !== undefined) {
    const token = bytes.toString('utf8').trim();
    if (!/^[A-Za-z0-9_-]{43}$/.test(token))
      throw new CfnError('CFN_STORE_FAILED', `${path} holds no token; remove it to make a new one`);
    return tokenDigest(token);
  }
  const token = toBase64url(randomBytes(TOKEN_BYTES));
  makeSecretFile(path, Buffer.from(token));
  return tokenDigest(token);
}

/** @throws {CfnError} `CFN_TOKEN_INVALID`, the same for a missing, an unknown and a wrong token */
export async function identify(
  authorization: string | undefined,
  deps: { readonly store: Pick<OwnerStore, 'tokens'>; readonly adminTokenDigest: Uint8Array },
): Promise<Caller> {
  const token = /^Bearer ([A-Za-z0-9._-]{1,256})$/i.exec(authorization ?? '')?.[1];
  if (token === undefined)
    throw new CfnError('CFN_TOKEN_INVALID', 'expected an Authorization header with a bearer token');
  const digest = tokenDigest(token);
  if (timingSafeEqual(digest, deps.adminTokenDigest)) return { role: 'admin' };
  const owner = nameSchema.safeParse(token.split('.', 1)[0]).data ?? '';
  let access: StoredToken['role'] | undefined;
  for (const one of await deps.store.tokens(owner)) if (timingSafeEqual(digest, one.digest)) access = one.role;
  if (access === undefined) throw new CfnError('CFN_TOKEN_INVALID', 'the token is not one of this KMS');
  return { role: 'owner', owner, access };
}

/** @throws {CfnError} `CFN_TOKEN_SCOPE` */
export function demandAdmin(caller: Caller): void {
  if (caller.role !== 'admin') throw new CfnError('CFN_TOKEN_SCOPE', 'expected the administrator token');
}

/** @returns the owner's name @throws {CfnError} `CFN_TOKEN_SCOPE` */
export function demandOwner(caller: Caller): string {
  if (caller.role !== 'owner') throw new CfnError('CFN_TOKEN_SCOPE', "expected a model owner's token");
  if (caller.access !== 'admin') throw new CfnError('CFN_TOKEN_SCOPE', 'the token may only read');
  return caller.owner;
}

/** The namespace that an owner's token may read. @throws {CfnError} `CFN_TOKEN_SCOPE` for the administrator, who sees none from inside */
export function namespaceOf(caller: Caller): string {
  if (caller.role !== 'owner') throw new CfnError('CFN_TOKEN_SCOPE', "expected a model owner's token");
  return caller.owner;
}

/** Whose things a caller may see: an owner's name, or `undefined` for the administrator, who may see all. */
export const readerOf = (caller: Caller): string | undefined => (caller.role === 'owner' ? caller.owner : undefined);
