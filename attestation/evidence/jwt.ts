import { fromBase64url, fromUtf8 } from '../../proto/index.ts';
import { parseJsonObject, type JsonObject } from './json.ts';
import { refuse } from './reasons.ts';

/** Longest token, in characters. With a GPU's evidence inside, Trustee's pass 128 KiB. */
const TOKEN_CHARACTERS_MAX = 512 * 1024;
const HEADER_CHARACTERS_MAX = 64 * 1024;
const KEY_ID_CHARACTERS_MAX = 256;

/** A signed token in compact form (RFC 7515 §7.1, RFC 7519), not verified yet. */
export interface Jwt {
  /** The token as it came: what is signed, and what digests are over. */
  readonly text: string;
  /** `alg` of the header. Whether it is acceptable is the verifier's configuration, never the token's choice. */
  readonly algorithm: string;
  readonly keyId: string | undefined;
  readonly claims: JsonObject;
}

/**
 * Parses a token so that one token has one text: canonical base64url without padding, no member twice, no signature left out. Of the
 * header only `alg` and `kid` are read; keys it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are the sender's word.
 *
 * @throws {Refusal} `parse/token`, `parse/json`, `parse/duplicate`, `parse/length`
 */
export function parseJwt(text: string, what: string): Jwt {
  if (text.length > TOKEN_CHARACTERS_MAX)
    refuse('parse/length', `${what} has ${text.length} characters, at most ${TOKEN_CHARACTERS_MAX} are taken`);
  const segments = text.split('.', 4);
  const [header, payload, signature] = segments;
  if (segments.length !== 3 || !header || !payload || !signature)
    refuse('parse/token', `${what} is not three segments of base64url`);
  decode(signature, `${what}: signature`);
  const parameters = parseSegment(header, `${what}: header`, HEADER_CHARACTERS_MAX);
  const { alg, kid } = parameters;
  if (typeof alg !== 'string') refuse('parse/token', `${what}: header names no algorithm`);
  if (kid !== undefined && (typeof kid !== 'string' || kid === '' || kid.length > KEY_ID_CHARACTERS_MAX))
    refuse('parse/token', `${what}: kid is not a text of 1 to ${KEY_ID_CHARACTERS_MAX} characters`);
  // RFC 7515 §4.1.11: what must be understood, and is not, refuses the token. `b64` would change what is signed.
  for (const critical of ['crit', 'b64']) {
    if (Object.hasOwn(parameters, critical)) refuse('parse/token', `${what}: header parameter ${critical} is refused`);
  }
  const claims = parseSegment(payload, `${what}: claims`, TOKEN_CHARACTERS_MAX);
  return { text, algorithm: alg, keyId: kid, claims };
}

function parseSegment(segment: string, what: string, charactersMax: number): JsonObject {
  return parseJsonObject(text(decode(segment, what), what), { what, charactersMax });
}

function decode(segment: string, what: string): Uint8Array {
  try {
    return fromBase64url(segment);
  } catch (cause) {
    refuse('parse/token', `${what} is not canonical base64url`, { cause });
  }
}

function text(bytes: Uint8Array, what: string): string {
  try {
    return fromUtf8(bytes);
  } catch (cause) {
    refuse('parse/json', `${what}: text is not UTF-8`, { cause });
  }
}
