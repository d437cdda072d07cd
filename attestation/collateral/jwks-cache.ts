import { parseJwks, type Jwk, type Jwks } from '../evidence/jwks.ts';
import { refuse } from '../evidence/reasons.ts';
import { fetchText, type HttpOptions } from './http.ts';

const JWKS_BYTES_MAX = 1024 * 1024;
/** Keys kept; NVIDIA makes some five a day. The one that was published longest ago goes first. */
const KEYS_MAX = 256;

export interface JwksCacheOptions extends HttpOptions {
  /** Such as `https://nras.attestation.nvidia.com/.well-known/jwks.json`. */
  readonly url: string;
  readonly now: () => Date;
  /** How long a key is kept after it was last published, in ms. NVIDIA's live two days; their tokens end an hour later. */
  readonly keepMs: number;
  /** Time between two fetches at least, in ms, so that tokens with invented kids cause no storm. */
  readonly fetchMsMin: number;
}

export interface JwksCache {
  /**
   * The keys of these names, fetched when one is not known. Names that the service does not publish are left out.
   *
   * @throws {CfnError} `CFN_VENDOR_UNREACHABLE`; `parse/*` for an answer that is no key set; `evidence/token-kid-unknown` when the
   *   service gives a known name to another key.
   */
  keysFor(keyIds: readonly (string | undefined)[]): Promise<Jwks>;
}

interface Kept {
  readonly key: Jwk;
  readonly seenMs: number;
}

/** Keeps published keys by name beyond their publication, so that tokens stay verifiable until they end. */
export function jwksCache(options: JwksCacheOptions): JwksCache {
  const kept = new Map<string, Kept>();
  let fetchedMs = Number.NEGATIVE_INFINITY;
  let fetching: Promise<void> | undefined;

  async function refresh(nowMs: number): Promise<void> {
    fetchedMs = nowMs;
    const text = await fetchText({ what: 'JWKS', url: options.url, bytesMax: JWKS_BYTES_MAX }, options);
    const published = parseJwks(text).filter((key) => key.kid !== undefined);
    for (const key of published) {
      const known = kept.get(key.kid ?? '');
      if (known !== undefined && !isSameKey(known.key, key))
        refuse('evidence/token-kid-unknown', `JWKS gives the name ${key.kid} to another key than before`);
    }
    for (const key of published) {
      kept.delete(key.kid ?? ''); // so that the order of the map is that of publication
      kept.set(key.kid ?? '', { key, seenMs: nowMs });
    }
    for (const oldest of kept.keys()) {
      if (kept.size <= KEYS_MAX) break;
      kept.delete(oldest);
    }
  }

  return {
    async keysFor(keyIds) {
      const nowMs = options.now().getTime();
      for (const [keyId, { seenMs }] of kept) if (nowMs - seenMs > options.keepMs) kept.delete(keyId);
      const names = [...new Set(keyIds)].filter((keyId) => keyId !== undefined);
      if (fetching !== undefined) await fetching;
      if (names.some((name) => !kept.has(name)) && nowMs - fetchedMs >= options.fetchMsMin) {
        fetching = refresh(nowMs).finally(() => (fetching = undefined));
        await fetching;
      }
      return names.flatMap((name) => kept.get(name)?.key ?? []);
    },
  };
}

function isSameKey(a: Jwk, b: Jwk): boolean {
  return a.crv === b.crv && a.x === b.x && ('y' in a ? a.y : undefined) === ('y' in b ? b.y : undefined);
}
