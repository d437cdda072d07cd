import { CfnError } from '../proto/index.ts';
import { openFileRootKey } from './root-key-file.ts';
import { openPkcs11RootKey } from './root-key-pkcs11.ts';
import { openTransitRootKey } from './root-key-transit.ts';

/**
 * The key under which everything secret in the keyring is wrapped, in versions: {@link rotate} makes a new one, and older ones
 * still open what they wrapped. Nothing of it is kept in memory where it is in an HSM or a transit service, so that each call
 * fails while that is gone, and works again when it is back.
 *
 * Every method rejects with `CFN_ROOT_KEY_UNREACHABLE` when HSM or service do not answer, and with `CFN_ROOT_KEY_REFUSED` when they do not
 * take our PIN or token.
 */
export interface RootKey {
  readonly kind: 'file' | 'pkcs11' | 'transit';
  /** Wraps at most 4 KiB under the newest version. @param context must be the same to unwrap */
  wrap(secret: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  /** @throws {CfnError} `CFN_KEYRING_ALTERED` when bytes, context or root key are not those of the wrapping */
  unwrap(wrapped: Uint8Array, context: Uint8Array): Promise<Buffer>;
  /** The same secret under the newest version. @throws {CfnError} `CFN_KEYRING_ALTERED` */
  rewrap(wrapped: Uint8Array, context: Uint8Array): Promise<Uint8Array>;
  /** Number of the version that wraps now, from 1. */
  version(): Promise<number>;
  /** Number of the version that wrapped this. @throws {CfnError} `CFN_KEYRING_ALTERED` when that cannot be read from it */
  versionOf(wrapped: Uint8Array): number;
  /** Makes a new version, which wraps from now on. @returns its number */
  rotate(): Promise<number>;
  close(): Promise<void>;
}

export interface RootKeyDeps {
  /**
   * Whether a key may be made where there is none. Not beside a keyring that another key wrapped: a new one would open nothing,
   * and hide that the old one is lost.
   */
  readonly mayMake: boolean;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly fetch: typeof globalThis.fetch;
  /** The HSM's PIN or the transit service's token, read anew whenever it is needed; `undefined` when none was given. */
  readonly credential: () => Buffer | undefined;
}

/**
 * Opens the root key that a URI names: `file:PATH`, `pkcs11:…` (RFC 7512) or `transit:URL`.
 *
 * @throws {CfnError} `CFN_USAGE` when it is none of these, and what each kind throws
 */
export async function openRootKey(uri: string, deps: RootKeyDeps): Promise<RootKey> {
  const rest = uri.slice(uri.indexOf(':') + 1);
  if (uri.startsWith('file:') && rest !== '') return openFileRootKey(rest, deps);
  if (uri.startsWith('pkcs11:')) return openPkcs11RootKey(uri, deps);
  if (uri.startsWith('transit:')) return openTransitRootKey(rest, deps);
  throw new CfnError('CFN_USAGE', '--root-key: expected file:PATH, pkcs11:URI or transit:URL');
}
