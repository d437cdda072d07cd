import { CfnError, concatBytes, type ErrorCode } from '../../proto/index.ts';
import type { Curve } from '../evidence/x509.ts';

type Hash = 'SHA-256' | 'SHA-384';
type PublicKeyBytes =
  { readonly spki: Uint8Array; readonly curve: Curve } | { readonly xy: Uint8Array; readonly curve: Curve };

/**
 * Verifies a raw (r ‖ s) ECDSA signature with WebCrypto.
 *
 * @throws {CfnError} with `code` when it does not verify, or the key is no point of its curve.
 */
export async function verifyEcdsa(
  key: PublicKeyBytes,
  hash: Hash,
  signature: Uint8Array,
  data: Uint8Array,
  refusal: { readonly code: ErrorCode; readonly message: string },
): Promise<void> {
  const algorithm = { name: 'ECDSA', namedCurve: key.curve };
  const [format, bytes] =
    'spki' in key ? (['spki', key.spki] as const) : (['raw', concatBytes(Uint8Array.of(4), key.xy)] as const);
  let genuine: boolean;
  try {
    // Copies: WebCrypto's types take no view that could be shared memory.
    const imported = await crypto.subtle.importKey(format, new Uint8Array(bytes), algorithm, false, ['verify']);
    genuine = await crypto.subtle.verify(
      { name: 'ECDSA', hash },
      imported,
      new Uint8Array(signature),
      new Uint8Array(data),
    );
  } catch (cause) {
    throw new CfnError(refusal.code, `${refusal.message}: the public key cannot be used`, { cause });
  }
  if (!genuine) throw new CfnError(refusal.code, refusal.message);
}
