import { sha256Hex, utf8, verifyManifest, type SignedManifest } from '../proto/index.ts';

/** Verified manifests that are kept, and the longest, in characters: together at most 16 MiB. Every lease of a function brings its own again. */
const KEPT_MAX = 256;
const KEPT_LENGTH_MAX = 64 * 1024;

/** {@link verifyManifest}, once for each manifest: it depends on its bytes alone. Only what verified is kept. */
export function openManifests(): { verify(jws: string): Promise<SignedManifest> } {
  const kept = new Map<string, SignedManifest>();
  return {
    async verify(jws) {
      if (jws.length > KEPT_LENGTH_MAX) return verifyManifest(jws);
      const digest = await sha256Hex(utf8(jws));
      const signed = kept.get(digest) ?? (await verifyManifest(jws));
      kept.delete(digest); // so that the order is that of use
      kept.set(digest, signed);
      for (const oldest of kept.keys()) {
        if (kept.size <= KEPT_MAX) break;
        kept.delete(oldest);
      }
      return signed;
    },
  };
}
