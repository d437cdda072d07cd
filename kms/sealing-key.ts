import { exportSealingKey, generateSealingKeyPair, importSealingKey } from '../proto/index.ts';
import { sealingKeyContext, type Keyring } from './keyring.ts';
import type { KeyStore } from './store.ts';

/** The KMS's own X25519 key, to which owners seal data keys. Model manifests name the public half, so it must never change. */
export interface SealingKey {
  /** Raw, base64url. */
  readonly publicKey: string;
  readonly privateKey: CryptoKey;
}

/**
 * Opens the sealing key from the store, or makes it on first use.
 *
 * @throws {CfnError} `CFN_KEYRING_ALTERED` when it does not open under this root key
 */
export async function openSealingKey(store: KeyStore, keyring: Keyring): Promise<SealingKey> {
  const stored = await store.sealingKey();
  if (stored === undefined) {
    const pair = await generateSealingKeyPair(true);
    const privateKeyBytes = await exportSealingKey(pair.privateKey);
    const { publicKey } = pair;
    await store.addSealingKey(publicKey, keyring.wrap(privateKeyBytes, sealingKeyContext(publicKey)));
    privateKeyBytes.fill(0);
    return openSealingKey(store, keyring);
  }
  const { publicKey, wrapped } = stored;
  const bytes = keyring.unwrap(wrapped, sealingKeyContext(publicKey));
  try {
    return { publicKey, privateKey: await importSealingKey(bytes) };
  } finally {
    bytes.fill(0);
  }
}
