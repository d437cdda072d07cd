const MiB = 1024 * 1024;

/** Largest message on the channel to a worker, in bytes: a function version with its bundle and model manifests. */
export const GRPC_MESSAGE_BYTES_MAX = 24 * MiB;
/** HTTP/2 window per stream to a worker, in bytes; the default of 64 KiB halves the speed of large bodies. */
export const GRPC_WINDOW_BYTES = 1 * MiB;
/** Time for a connection, and for the TLS probe of it, in ms. */
export const CONNECT_MS_MAX = 5_000;
/** Time for a worker to end an invocation whose caller has gone, in ms: its wipe waits for engines that still hold tensors of it. */
export const ABORT_MS_MAX = 10_000;
/** Time for evidence, in ms: a quote can take a second on a stock kernel, and quotes of one VM queue. */
export const EVIDENCE_MS_MAX = 10_000;
/** Time for a worker to take a function version, in ms: it may fetch and decrypt gigabytes of weights. */
export const LOAD_MS_MAX = 10 * 60_000;
/** Time for the head of a request from a connection's first byte, in ms; a connection that says nothing ends after it, too. */
export const HEAD_MS_MAX = 10_000;
/** What is added to a function's wall limit for queueing, upload and sealing, in ms. First guess. */
export const DEADLINE_MARGIN_MS = 15_000;
/** How long a worker may get requests after it was challenged, in seconds: `--lease` of a gateway. */
export const LEASE_SECONDS = { min: 2, max: 600 } as const;
/** How often workers are asked for their metrics, and how long one may take to answer, in ms. */
export const WORKER_METRICS_MS = 10_000;
/** First and longest wait between attempts to admit a worker, in ms. */
export const ADMISSION_BACKOFF_MS = { first: 250, max: 15_000 } as const;
/** Challenges with the caller's own nonce, per second over all callers: each costs a quote on every worker. */
export const CALLER_NONCES_PER_SECOND = 5;
/** Verified manifests that are kept parsed. */
export const MANIFEST_CACHE_MAX = 1_000;
/** Longest time that a receipt waits for its transaction, in ms: receipts of a busy moment share one fsync. */
export const LEDGER_FLUSH_MS = 20;
/** How long a receipt may be missing in its worker's chain, although later ones came, in ms: another gateway may be about to write it. */
export const RECEIPT_GAP_MS = 60_000;
/** When an hour of the ledger is sealed after its end, and how often that is looked at, in ms. */
export const BATCH_SEAL_DELAY_MS = 60_000;
export const BATCH_SEAL_EVERY_MS = 60_000;
/** Wait before a broken-off stream of receipts is opened again, in ms. */
export const RECEIPT_FEED_RETRY_MS = 1_000;
/** Life of a tenant or worker token, at most, in seconds. */
export const TOKEN_SECONDS_MAX = 366 * 24 * 60 * 60;
/** What an identity provider may take and give: time for one answer and size of it, how long keys are kept, and how soon others are asked for. */
export const ISSUER_FETCH = { ms: 5_000, bytes: 1 * MiB, cacheMs: 10 * 60_000, cooldownMs: 30_000 } as const;
/** By how much the clock of an identity provider may differ, in seconds. */
export const ISSUER_SKEW_SECONDS = 10;
/** How long the limits of a tenant are taken as they were read, in ms. */
export const LIMITS_CACHE_MS = 5_000;
/**
 * How a gateway keeps its share of a tenant's limits, in ms: the time whose requests it takes from the book at once; for how long it may use them; how
 * long a settlement may take before it goes by its own part; how long it does not ask again after there was no slot; after
 * which time a slot without use goes back; how often it tells that it lives, and what it counted; when it tells that again although
 * nothing came to it, as the book may have lost it.
 */
export const QUOTA = {
  leaseMs: 100,
  tokensMs: 1_000,
  settleMs: 250,
  fullMs: 50,
  giveBackMs: 100,
  tickMs: 1_000,
  tellAgainMs: 10_000,
} as const;
/** API keys that a tenant, or the operator, may have at once. */
export const KEYS_PER_TENANT_MAX = 100;
/** Largest JSON body of the control plane that carries no bundle, in bytes. */
export const CONTROL_BYTES_MAX = 64 * 1024;
/** Entries that a list of the control plane gives at once. */
export const LIST_MAX = 1_000;
/** Time that a clean stop gives to requests under way, in ms. */
export const DRAIN_MS_MAX = 10_000;
/** Receipts that may wait for a store that refuses them; from then on no request is taken. */
export const LEDGER_QUEUE_MAX = 10_000;
/** Time that a broken-off upload is kept for the next attempt, in ms. */
export const BEGUN_MS_MAX = 7 * 24 * 60 * 60_000;
/** Bytes of the uploads that one uploader has begun: four blobs of the largest size. */
export const BEGUN_BYTES_MAX = 4 * 65 * 1024 * MiB;
/** Uploads are looked through for what is to be dropped whenever so much came, in bytes, and after this time, in ms. */
export const SWEEP = { bytes: 64 * MiB, ms: 60 * 60_000 } as const;
/** Deployments of one function that its history keeps. */
export const DEPLOYMENTS_KEPT = 1_000;
/** Time for a connection to Redis, and first and longest wait between attempts, in ms. */
export const REDIS_CONNECT_MS_MAX = 2_000;
export const REDIS_BACKOFF_MS = { first: 50, max: 1_000 } as const;
/** Time for an answer of Redis, in ms: far below the deadline of any request. */
export const REDIS_COMMAND_MS_MAX = 2_000;
/** Commands that may wait for Redis on one connection; further ones fail at once. */
export const REDIS_PENDING_MAX = 10_000;
/** Receipts that one script writes: Redis does nothing else meanwhile. */
export const REDIS_RECEIPTS_MAX = 200;
/** Changes of the shared state that are kept for gateways to follow; one that was away for longer starts its view anew. */
export const CHANGES_MAX = 10_000;
/** How often a gateway asks what others changed, in ms. */
export const CHANGES_POLL_MS = 200;
/** How old the view of shared state may become while Redis is away, in ms: one admission lease (docs/decisions/0008). */
export const VIEW_AGE_MS_MAX = 60_000;
/** Entries of the view: 100,000 functions with their tenants and consents. About 300 bytes each. */
export const VIEW_ENTRIES_MAX = 400_000;
/** API keys in the view. */
export const VIEW_KEYS_MAX = 100_000;
/** Subjects of each kind of which the view remembers that they are not there. */
export const VIEW_ABSENT_MAX = 10_000;
/** Model manifests in the view; each has up to 1 MiB. */
export const VIEW_MODELS_MAX = 256;
/** Evidence that waits for a shared store that is away: two challenges a minute of 100 workers for five minutes; of GPUs with endorsements up to 300 KiB each. */
export const EVIDENCE_LATER_MAX = 1_000;
