import { CfnError, frame, utf8 } from '../proto/index.ts';
import type { RootKey } from './root-key.ts';
import type { SecretStore } from './store.ts';

/** Context of a secret of the KMS itself: no secret opens in the place of another. */
export const secretContext = (name: string, publicKey: string): Uint8Array =>
  frame('cfn/kms-secret/v1', utf8(name), utf8(publicKey));

/**
 * Opens a key pair of the KMS itself from the store, or makes it on first use.
 *
 * @param mayMake whether it is the first use
 * @returns the public half, and the private one to be overwritten by the caller
 * @throws {CfnError} `CFN_KEYRING_ALTERED` when it is missing, or does not open under this root key
 */
export async function openSecret(
  name: string,
  store: SecretStore,
  root: RootKey,
  mayMake: boolean,
  make: () => Promise<{ readonly publicKey: string; readonly bytes: Uint8Array }>,
): Promise<{ readonly publicKey: string; readonly bytes: Buffer }> {
  const stored = await store.secret(name);
  if (stored === undefined) {
    if (!mayMake) throw new CfnError('CFN_KEYRING_ALTERED', `the keyring has lost its ${name} key`);
    const { publicKey, bytes } = await make();
    await store.addSecret({ name, publicKey, wrapped: await root.wrap(bytes, secretContext(name, publicKey)) });
    bytes.fill(0);
    return openSecret(name, store, root, false, make);
  }
  const { publicKey, wrapped } = stored;
  return { publicKey, bytes: await root.unwrap(wrapped, secretContext(name, publicKey)) };
}
