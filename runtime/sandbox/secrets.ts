import {
  CfnError,
  decodeSecrets,
  fromUtf8,
  generateSealingKeyPair,
  openSealed,
  wrappedSecretsInfo,
  type Sealed,
  type SealingKeyPair,
} from '../../proto/index.ts';

/**
 * The function's secrets, opened in this process and in no other of the worker: the key to which the KMS wraps them is made here. They are
 * strings of V8 from then on, in `env` of every isolate, until the process ends.
 */
export interface SecretInbox {
  /** Makes the key. @returns raw X25519, base64url */
  publicKey(): Promise<string>;
  /** @throws {CfnError} `CFN_CHALLENGE_INVALID` when they were wrapped to another key, version or challenge */
  open(wrapped: Uint8Array, version: string, challenge: string): Promise<Readonly<Record<string, string>>>;
}

export function secretInbox(): SecretInbox {
  let pair: SealingKeyPair | undefined;
  return {
    async publicKey() {
      pair ??= await generateSealingKeyPair();
      return pair.publicKey;
    },
    async open(wrapped, version, challenge) {
      if (pair === undefined) throw new CfnError('CFN_INTERNAL', 'secrets came before their key was made');
      const sealed = JSON.parse(fromUtf8(wrapped)) as Sealed;
      const info = wrappedSecretsInfo(version, challenge);
      const bytes = await openSealed(pair.privateKey, sealed, info, 'CFN_CHALLENGE_INVALID');
      pair = undefined;
      try {
        return decodeSecrets(bytes);
      } finally {
        bytes.fill(0);
      }
    },
  };
}
