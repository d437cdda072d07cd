import { EVIDENCE_BYTES_MAX, MANIFEST_BYTES_MAX } from '../proto/index.ts';

/** Largest body of a release, in bytes: evidence, manifest, and a little for the rest. */
export const RELEASE_BODY_BYTES_MAX = EVIDENCE_BYTES_MAX + MANIFEST_BYTES_MAX + 16 * 1024;
/** Largest body of every other call, in bytes: the largest is a sealed key or a dropped statement, both under 9 KiB. */
export const SMALL_BODY_BYTES_MAX = 16 * 1024;
/** Appraisals at once. Anybody may ask for one, and each costs milliseconds of CPU and up to 2 MiB. First guess. */
export const RELEASES_INFLIGHT_MAX = 16;
/** Leases in one listing, newest first. */
export const LEASES_LISTED_MAX = 1000;
/** Grants of one model. Each release reads them all. */
export const GRANTS_MAX = 1000;
/** Refusals kept in the audit trail, the newest. Strangers cause them, so they must not fill the disk; everything else is kept for good. */
export const REFUSALS_KEPT = 10_000;
/** Connections at once. */
export const CONNECTIONS_MAX = 1024;
/** Time for a whole request to arrive, in ms; a slow sender holds a connection no longer. */
export const REQUEST_ARRIVES_MS_MAX = 30_000;
/** Bytes of a data key (AES-256). */
export const DATA_KEY_BYTES = 32;
