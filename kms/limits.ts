import {
  EVIDENCE_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  RESOURCE_BYTES_MAX,
  SECRET_BYTES_MAX,
  SECRETS_MAX,
  type Quotas,
} from '../proto/index.ts';

/** Largest body of a release, in bytes: evidence, manifest, and a little for the rest. */
export const RELEASE_BODY_BYTES_MAX = EVIDENCE_BYTES_MAX + MANIFEST_BYTES_MAX + 16 * 1024;
/** Largest body of a call that gives secrets, in bytes: each sealed, in base64url. */
export const SECRETS_BODY_BYTES_MAX = SECRETS_MAX * (2 * SECRET_BYTES_MAX + 512) + 16 * 1024;
/** Functions of one namespace that have secrets. First guess. */
export const SECRET_SETS_MAX = 1000;
/** Largest body of every other call, in bytes: the largest is a sealed key or a dropped statement, both under 9 KiB. */
export const SMALL_BODY_BYTES_MAX = 16 * 1024;
/** Largest body of a withdrawal, in bytes: a manifest, and a little for the rest. */
export const WITHDRAWAL_BYTES_MAX = MANIFEST_BYTES_MAX + 16 * 1024;
/** Largest appraisal policy of a namespace, in bytes. */
export const POLICY_BYTES_MAX = 256 * 1024;
/** Namespaces whose rates are told apart. */
export const OWNERS_RATED_MAX = 10_000;
/** Appraisals at once. Anybody may ask for one, and each costs milliseconds of CPU and up to 2 MiB. First guess. */
export const RELEASES_INFLIGHT_MAX = 16;
/** Streams of lease events at once, in all and for one worker, which needs one; well below the connections that there may be. */
export const FEEDS_MAX = 512;
export const FEEDS_PER_WORKER_MAX = 2;
/** Lines that wait for a worker which does not read; then its stream ends, and it asks for its leases one by one. */
export const FEED_LINES_WAITING_MAX = 256;
/** Leases in one listing, newest first. */
export const LEASES_LISTED_MAX = 1000;
/** Grants of one model. Each release reads them all. */
export const GRANTS_MAX = 1000;
/** Tokens of one namespace; each call of an owner is compared with all. */
export const TOKENS_MAX = 32;
/** Quotas of a namespace for which none were set. First guesses. */
export const DEFAULT_QUOTAS: Quotas = { models: 1000, grants: 10_000, leases: 10_000, releasesPerMinute: 6000 };
/** A checkpoint is kept for good after so many entries; otherwise the newest alone. */
export const CHECKPOINTS_EVERY = 100;
/** Entries in one page of an audit log. */
export const AUDIT_PAGE_MAX = 1000;
/**
 * Refusals noted one by one in each log: so many at once, and so many a minute. Strangers cause them, so they must not fill the disk: at
 * this rate they grow by 5 MB a day. Of more, each code's number is noted.
 */
export const REFUSALS_AT_ONCE = 1000;
export const REFUSALS_PER_MINUTE = 10;
/** Sessions of clients of the key broker protocol: so many before they attested, and so many after. */
export const KBS_SESSIONS_MAX = 10_000;
/** Life of such a session before it attested, and again after it, in ms: what brokers do. */
export const KBS_SESSION_MS = 5 * 60_000;
/** Largest evidence of such a client with what is around it, in bytes: as brokers take it. */
export const KBS_BODY_BYTES_MAX = 2 * 1024 * 1024;
/** Largest body of a resource, sealed, with its terms, in bytes. */
export const RESOURCE_BODY_BYTES_MAX = 2 * RESOURCE_BYTES_MAX;
/** Resources of one namespace. */
export const RESOURCES_MAX = 1000;
/** Connections at once. */
export const CONNECTIONS_MAX = 1024;
/** Time for a whole request to arrive, in ms; a slow sender holds a connection no longer. */
export const REQUEST_ARRIVES_MS_MAX = 30_000;
/** Bytes of a data key (AES-256). */
export const DATA_KEY_BYTES = 32;
