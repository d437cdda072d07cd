import { exportSealingKey, generateSealingKeyPair, importSealingKey } from '../proto/index.ts';
import type { RootKey } from './root-key.ts';
import { openSecret } from './secrets.ts';
import type { SecretStore } from './store.ts';

/** The KMS's own X25519 key, to which owners seal data keys. Model manifests name the public half, so it must never change. */
export interface SealingKey {
  /** Raw, base64url. */
  readonly publicKey: string;
  readonly privateKey: CryptoKey;
}

/** Opens the sealing key from the store, or makes it on first use. @throws {CfnError} as {@link openSecret} */
export async function openSealingKey(store: SecretStore, root: RootKey, mayMake: boolean): Promise<SealingKey> {
  const { publicKey, bytes } = await openSecret('sealing', store, root, mayMake, async () => {
    const pair = await generateSealingKeyPair(true);
    return { publicKey: pair.publicKey, bytes: await exportSealingKey(pair.privateKey) };
  });
  try {
    return { publicKey, privateKey: await importSealingKey(bytes) };
  } finally {
    bytes.fill(0);
  }
}
