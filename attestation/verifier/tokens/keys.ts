import { importJWK } from 'jose';
import type { Jwk, Jwks } from '../../evidence/jwks.ts';
import type { Jwt } from '../../evidence/jwt.ts';
import { concatBytes, equalBytes, fromBase64url } from '../../../proto/index.ts';
import { fromBase64 } from '../../evidence/base64.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { certifiedKey } from './certified-key.ts';

/** Signature algorithms a relying party can configure, and the one curve that goes with each (RFC 7518 §3.4, RFC 8037). */
const CURVES = { ES256: 'P-256', ES384: 'P-384', EdDSA: 'Ed25519' } as const;
export type TokenAlgorithm = keyof typeof CURVES;

/**
 * Which keys may sign.
 *
 * - `pinned`: the relying party vouches for the set (it is configured, or was got from the issuer over TLS). Certificates in it are
 *   not looked at.
 * - `certified`: the set may come from anybody, the attester included. A key counts when its `x5c` leads to one of the anchors:
 *   certificates by the SHA-256 of their DER, hexadecimal. An anchor need not be a root (NVIDIA publishes none for NRAS); what
 *   stands above it is not looked at.
 */
export type TokenKeys =
  | { readonly kind: 'pinned'; readonly jwks: Jwks }
  | { readonly kind: 'certified'; readonly jwks: Jwks; readonly anchors: readonly string[] };

/**
 * The key that has to have signed the token. A token without `kid` is only taken when the set holds a single key that fits.
 *
 * @throws {Refusal} `evidence/token-kid-unknown` for none or several; `certificate/*` when certificates must vouch and do not;
 *   `evidence/token-signature` for a key that is none.
 */
export async function keyOf(
  token: Jwt,
  keys: TokenKeys,
  options: { readonly algorithm: TokenAlgorithm; readonly now: Date; readonly what: string },
): Promise<CryptoKey> {
  const { algorithm, now, what } = options;
  const fitting = keys.jwks.filter((jwk) => fits(jwk, algorithm) && (!token.keyId || jwk.kid === token.keyId));
  const [jwk] = fitting;
  const name = token.keyId === undefined ? 'no kid' : `kid ${token.keyId}`;
  if (jwk === undefined)
    refuse('evidence/token-kid-unknown', `${what}: ${name}, and the key set holds no such ${algorithm} key`);
  // The same key twice is one; two could be anybody's.
  if (fitting.some((other) => JSON.stringify(other) !== JSON.stringify(jwk)))
    refuse(
      'evidence/token-kid-unknown',
      `${what}: ${name}, and the key set holds ${fitting.length} such ${algorithm} keys`,
    );
  if (keys.kind === 'certified') {
    const certificates = jwk.x5c ?? [];
    const key = await certifiedKey(certificates, {
      anchors: keys.anchors,
      curve: CURVES[algorithm],
      now,
      what: `${what}: key of ${name}`,
    });
    requireSameKey(jwk, certificates[0] ?? '', `${what}: key of ${name}`);
    return key;
  }
  try {
    // Of the types we parse, only symmetric keys would come as bytes.
    return (await importJWK(publicMembers(jwk), algorithm)) as CryptoKey;
  } catch (cause) {
    refuse('evidence/token-signature', `${what}: the key of ${name} is no point of its curve`, { cause });
  }
}

function fits(jwk: Jwk, algorithm: TokenAlgorithm): boolean {
  const { crv, alg, use, key_ops: operations } = jwk;
  return (
    crv === CURVES[algorithm] &&
    (alg === undefined || alg === algorithm) &&
    (use === undefined || use === 'sig') &&
    (operations === undefined || operations.includes('verify'))
  );
}

/** RFC 7517 §4.7: the first certificate is of the key that the other members name. */
function requireSameKey(jwk: Jwk, certificate: string, what: string): void {
  const { spki } = parseCertificate(fromBase64(certificate)).publicKey;
  const y = jwk.kty === 'EC' ? jwk.y : '';
  const named = concatBytes(...[jwk.x, y].map((text) => fromBase64url(text, 'CFN_EVIDENCE_MALFORMED')));
  if (!equalBytes(spki.subarray(-named.length), named))
    refuse('evidence/token-signature', `${what}: its certificate is of another key`);
}

function publicMembers(jwk: Jwk): { kty: string; crv: string; x: string; y?: string } {
  const { kty, crv, x } = jwk;
  return jwk.kty === 'EC' ? { kty, crv, x, y: jwk.y } : { kty, crv, x };
}
