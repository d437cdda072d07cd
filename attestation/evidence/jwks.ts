import { z } from 'zod';
import { parseJson } from './json.ts';
import { refuse } from './reasons.ts';

/** Largest key set, in characters; NVIDIA's real one has some tens of keys of 2.5 KiB, certificates included. */
const JWKS_CHARACTERS_MAX = 1024 * 1024;
const KEYS_MAX = 256;
const CERTIFICATES_MAX = 8;

const coordinate = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const base64 = z
  .string()
  .max(16_384)
  .regex(/^[A-Za-z0-9+/]+={0,2}$/);
const shared = {
  kid: z.string().min(1).max(256).optional(),
  alg: z.string().max(32).optional(),
  use: z.string().max(32).optional(),
  key_ops: z.array(z.string().max(32)).max(16).optional(),
  /** Certificate of the key, then of its issuers; standard base64 (RFC 7517 §4.7). */
  x5c: z.array(base64).min(1).max(CERTIFICATES_MAX).optional(),
  /** A private key has no business in a set of keys to verify with. */
  d: z.never().optional(),
};
/** Members that we do not read are left out (RFC 7517 §4 says to ignore them). */
const keySchema = z.discriminatedUnion('kty', [
  z.object({ kty: z.literal('EC'), crv: z.enum(['P-256', 'P-384']), x: coordinate, y: coordinate, ...shared }),
  z.object({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: coordinate, ...shared }),
]);
const jwksSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(KEYS_MAX) });

/** A public key that can verify ES256, ES384 or EdDSA (RFC 7517, RFC 8037). */
export type Jwk = z.infer<typeof keySchema>;
export type Jwks = readonly Jwk[];

const CURVES: readonly unknown[] = ['P-256', 'P-384', 'Ed25519'];

/**
 * Parses a JSON Web Key Set. Keys we have no use for (RSA, other curves) are left out, as RFC 7517 §5 asks; the others must be whole.
 *
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`
 */
export function parseJwks(text: string): Jwks {
  const document = parseJson(text, { what: 'JWKS', charactersMax: JWKS_CHARACTERS_MAX });
  const set = jwksSchema.safeParse(document);
  if (!set.success) refuse('parse/json', `JWKS is not a key set: ${z.prettifyError(set.error).slice(0, 300)}`);
  return set.data.keys
    .filter(({ crv }) => CURVES.includes(crv))
    .map((key, index) => {
      const parsed = keySchema.safeParse(key);
      if (!parsed.success) refuse('parse/json', `JWKS key ${index}: ${z.prettifyError(parsed.error).slice(0, 300)}`);
      return parsed.data;
    });
}
