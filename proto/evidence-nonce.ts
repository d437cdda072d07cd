import { utf8 } from './bytes.ts';
import { frame, sha256 } from './hash.ts';

// What a worker quotes is never bytes as they came to it, but a digest under a label that says for whom: here, and in `kmsNonce` and
// `secretsNonce`. Evidence that one party asked for thus answers no other. Else a caller could have the nonce of a KMS quoted, for a
// wrapping key of its own.

/** One TLS session between a gateway and a worker, as each of the two sees it for itself. */
export interface Channel {
  /** RFC 9266: 32 bytes that the two ends of this very session have, and nobody else. */
  readonly exporter: Uint8Array;
  /** SHA-256 of the SubjectPublicKeyInfo of the leaf certificate. */
  readonly workerKey: Uint8Array;
  readonly gatewayKey: Uint8Array;
}

/** The nonce of evidence for admission, 32 bytes. Who stands between the two has another session with each. @param nonce the gateway's */
export function channelNonce(
  nonce: Uint8Array,
  { exporter, workerKey, gatewayKey }: Channel,
): Promise<Uint8Array<ArrayBuffer>> {
  const roles = [utf8('gateway asks'), utf8('worker attests')];
  return sha256(frame('cfn/channel-nonce/v1', ...roles, nonce, exporter, workerKey, gatewayKey));
}

/** The nonce of evidence that a caller asked for through a gateway, 32 bytes. @param nonce the caller's */
export function callerNonce(nonce: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return sha256(frame('cfn/caller-nonce/v1', nonce));
}
