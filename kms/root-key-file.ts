import { createSecretKey, type KeyObject } from 'node:crypto';
import { ByteReader, CfnError, concatBytes } from '../proto/index.ts';
import { unwrapUnder, wrapUnder } from './aead.ts';
import type { RootKey, RootKeyDeps } from './root-key.ts';
import { makeSecretFile, readSecretFile, replaceSecretFile } from './secret-file.ts';

const KEY_BYTES = 32;
/** One a month for twenty years. */
const VERSIONS_MAX = 240;

/**
 * A root key in a file that nobody else may read: 32 bytes for each version, the newest last. A wrapped secret is
 * u32be version ‖ what `aead.ts` makes.
 *
 * @throws {CfnError} `CFN_SECRET_EXPOSED` when others can read the file; `CFN_STORE_FAILED` when it is missing beside a keyring, or
 *   has another length
 */
export function openFileRootKey(
  path: string,
  { mayMake, randomBytes }: Pick<RootKeyDeps, 'mayMake' | 'randomBytes'>,
): RootKey {
  const keys = readKeys(path) ?? makeKey(path, mayMake, randomBytes);
  const version = (): number => keys.length;
  const wrap = (secret: Uint8Array, context: Uint8Array): Uint8Array =>
    concatBytes(versionBytes(version()), wrapUnder(keyOf(keys, version()), secret, context, randomBytes));
  const unwrap = (wrapped: Uint8Array, context: Uint8Array): Buffer =>
    unwrapUnder(keyOf(keys, versionOf(wrapped)), wrapped.subarray(4), context);

  return {
    kind: 'file',
    wrap: async (secret, context) => wrap(secret, context),
    unwrap: async (wrapped, context) => unwrap(wrapped, context),
    async rewrap(wrapped, context) {
      const secret = unwrap(wrapped, context);
      try {
        return wrap(secret, context);
      } finally {
        secret.fill(0);
      }
    },
    version: async () => version(),
    versionOf,
    async rotate() {
      const present = readSecretFile(path, KEY_BYTES * VERSIONS_MAX);
      if (present?.length !== keys.length * KEY_BYTES)
        throw new CfnError('CFN_STORE_FAILED', `${path} is not what it was when the service started`);
      if (keys.length >= VERSIONS_MAX)
        throw new CfnError('CFN_CONFLICT', `the root key has ${VERSIONS_MAX} versions, the most it may have`);
      const all = concatBytes(present, randomBytes(KEY_BYTES));
      replaceSecretFile(path, all);
      keys.push(createSecretKey(all.subarray(-KEY_BYTES)));
      present.fill(0);
      all.fill(0);
      return version();
    },
    close: async () => undefined,
  };
}

/** u32be, as files and HSMs begin what they wrapped. */
export function versionBytes(version: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, version);
  return bytes;
}
export const versionOf = (wrapped: Uint8Array): number =>
  new ByteReader(wrapped, 'CFN_KEYRING_ALTERED').u32be('version of a wrapped key');

function keyOf(keys: readonly KeyObject[], version: number): KeyObject {
  const key = keys[version - 1];
  if (key === undefined)
    throw new CfnError(
      'CFN_KEYRING_ALTERED',
      `a wrapped key names version ${version} of a root key with ${keys.length}`,
    );
  return key;
}

function readKeys(path: string): KeyObject[] | undefined {
  const bytes = readSecretFile(path, KEY_BYTES * VERSIONS_MAX);
  if (bytes === undefined) return undefined;
  if (bytes.length === 0 || bytes.length % KEY_BYTES !== 0)
    throw new CfnError('CFN_STORE_FAILED', `${path} has ${bytes.length} bytes, expected ${KEY_BYTES} for each version`);
  const keys: KeyObject[] = [];
  for (let at = 0; at < bytes.length; at += KEY_BYTES) keys.push(createSecretKey(bytes.subarray(at, at + KEY_BYTES)));
  bytes.fill(0);
  return keys;
}

function makeKey(path: string, mayMake: boolean, randomBytes: (length: number) => Uint8Array): KeyObject[] {
  if (!mayMake)
    throw new CfnError('CFN_STORE_FAILED', `${path} is missing, but a keyring exists; restore it from its backup`);
  const bytes = Buffer.from(randomBytes(KEY_BYTES));
  makeSecretFile(path, bytes);
  const key = createSecretKey(bytes); // prints as [KeyObject], never as its bytes
  bytes.fill(0);
  return [key];
}
