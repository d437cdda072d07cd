import {
  CfnError,
  decryptResource,
  generateSealingKeyPair,
  generateTeeKeyPair,
  isKbsUrl,
  openSealed,
  wrappedKeyInfo,
  type ModelPackage,
  type SealingKeyPair,
  type TeeKeyPair,
} from '../../proto/index.ts';
import type { WrappedKey } from '../ipc/messages.ts';

/** Keys of this engine alone, to which its data key is wrapped: evidence binds one or the other. Neither leaves the process. */
export interface WrappingKeys {
  readonly kms: SealingKeyPair;
  readonly broker: TeeKeyPair;
}

export async function makeWrappingKeys(): Promise<WrappingKeys> {
  const [kms, broker] = await Promise.all([generateSealingKeyPair(), generateTeeKeyPair()]);
  return { kms, broker };
}

/** AES-256. */
const DATA_KEY_BYTES = 32;

/**
 * Opens what a KMS wrapped, or a broker released: the package says which of them has the key.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID` when a KMS's does not open; `CFN_BROKER_ANSWER` when a broker's does not, or is no data key
 */
export async function unwrapDataKey(
  keys: WrappingKeys,
  { kms }: ModelPackage,
  {
    digest,
    challenge,
    wrappedKey,
  }: { readonly digest: string; readonly challenge: string; readonly wrappedKey: WrappedKey },
): Promise<Uint8Array> {
  const isBroker = isKbsUrl(kms.url);
  if (isBroker !== 'protected' in wrappedKey)
    throw new CfnError(
      'CFN_BROKER_ANSWER',
      `the package names a ${isBroker ? 'key broker' : 'KMS'}; the key came as of the other`,
    );
  if (!('protected' in wrappedKey))
    return openSealed(keys.kms.privateKey, wrappedKey, wrappedKeyInfo(digest, challenge), 'CFN_CHALLENGE_INVALID');
  const dataKey = await decryptResource(wrappedKey, keys.broker);
  if (dataKey.length === DATA_KEY_BYTES) return dataKey;
  dataKey.fill(0);
  throw new CfnError(
    'CFN_BROKER_ANSWER',
    `the resource has ${dataKey.length} bytes, expected a data key of ${DATA_KEY_BYTES}`,
  );
}
