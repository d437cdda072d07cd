import {
  CfnError,
  openSealed,
  SECRET_BYTES_MAX,
  secretInfo,
  secretsId,
  toHex,
  type PutSecrets,
} from '../proto/index.ts';
import type { KmsDeps } from './deps.ts';
import { wrapFunctionSecrets } from './namespace-key.ts';
import type { StoredFunctionSecret } from './store.ts';

type SecretDeps = Pick<KmsDeps, 'store' | 'now' | 'rootKey' | 'randomBytes' | 'sealingKey'>;

/** A function as the owner of its secrets knows it. */
export interface FunctionKey {
  readonly owner: string;
  readonly tenant: string;
  readonly function: string;
}

/**
 * Stores secrets of a function, all or none. Leases on what was there before end, so that workers ask anew.
 *
 * @returns how many leases were revoked
 * @throws {CfnError} `CFN_INPUT_INVALID` when a value does not open or is too long; `CFN_QUOTA_EXCEEDED`; what the root key throws
 */
export async function putSecrets(key: FunctionKey, put: PutSecrets, deps: SecretDeps): Promise<number> {
  const id = await idOf(key);
  const values = new Map<string, Uint8Array>();
  try {
    for (const [name, sealed] of Object.entries(put.secrets)) {
      const value = await openSealed(deps.sealingKey.privateKey, sealed, secretInfo(id, name));
      values.set(name, value);
      if (value.length > SECRET_BYTES_MAX)
        throw new CfnError('CFN_INPUT_INVALID', `${name} has ${value.length} bytes, the most is ${SECRET_BYTES_MAX}`);
    }
    const { author, version, leaseMs } = put;
    const storedAt = deps.now().getTime();
    for (;;) {
      const { keyVersion, wrapped } = await wrapFunctionSecrets(key.owner, { id, author, version }, values, deps);
      const secrets: StoredFunctionSecret[] = wrapped.map(([name, bytes]) => ({
        id,
        name,
        wrapped: bytes,
        keyVersion,
        author,
        ...(version !== undefined && { version }),
        leaseMs,
        storedAt,
      }));
      const set = { ...key, id, revision: newRevision(deps) };
      const revoked = await deps.store.putFunctionSecrets(set, secrets);
      if (revoked !== undefined) return revoked; // otherwise once more, under the new version of the namespace key
    }
  } finally {
    for (const value of values.values()) value.fill(0);
  }
}

/** @returns what is stored for a function, without the values */
export async function listSecrets(
  key: FunctionKey,
  { store }: Pick<SecretDeps, 'store'>,
): Promise<readonly StoredFunctionSecret[]> {
  return (await store.functionSecrets(await idOf(key)))?.secrets ?? [];
}

/** Forgets a secret; leases on the function's secrets end. @returns how many @throws {CfnError} `CFN_NOT_FOUND` */
export async function deleteSecret(key: FunctionKey, name: string, deps: SecretDeps): Promise<number> {
  const at = deps.now().getTime();
  const revoked = await deps.store.deleteFunctionSecret(await idOf(key), name, newRevision(deps), at);
  if (revoked === undefined) throw new CfnError('CFN_NOT_FOUND', 'the function has no such secret');
  return revoked;
}

const idOf = (key: FunctionKey): Promise<string> => secretsId(key.owner, key.tenant, key.function);
/** Leases name the revision that they were given for. */
const newRevision = ({ randomBytes }: SecretDeps): string => toHex(randomBytes(16));
