const KiB = 1024;
const MiB = 1024 * KiB;

/** Largest request body of a function whose manifest names no `requestMb`, in bytes. */
export const REQUEST_BYTES_MAX = 16 * MiB;
/** Largest response body of a function whose manifest names no `responseMb`, in bytes. */
export const RESPONSE_BYTES_MAX = 32 * MiB;
/** Bytes of one body that wait between two hops before the sender is held up. A body of up to this length is not streamed but sent in one frame. */
export const BODY_WINDOW_BYTES = 1 * MiB;
/** Largest head (method, path, header fields) of a request or response, in bytes. */
export const HEAD_BYTES_MAX = 64 * KiB;
/** Plaintext bytes per OHTTP chunk that we send; draft-ietf-ohai-chunked-ohttp asks senders not to exceed this. */
export const OHTTP_CHUNK_BYTES = 16_384;
/** Largest OHTTP chunk, sealed, that we take. */
export const OHTTP_CHUNK_BYTES_MAX = 64 * KiB;
/** Largest function bundle, in bytes. */
export const BUNDLE_BYTES_MAX = 10 * MiB;
/** Largest signed manifest or model package manifest, in bytes. */
export const MANIFEST_BYTES_MAX = 1 * MiB;
/** Largest evidence document, in bytes: a quote is at most 32 KiB, a GPU report and chain about 20 KiB each, endorsements 300 KiB. */
export const EVIDENCE_BYTES_MAX = 2 * MiB;
/** Largest encrypted file of a model package, in bytes (64 GiB is the limit of GCM per message; segments are far below). */
export const MODEL_FILE_BYTES_MAX = 64 * 1024 * MiB;
/** Bytes of plaintext in one segment of an encrypted model file. */
export const SEGMENT_BYTES = 1 * MiB;
/** Skew allowed between the Date in a sealed request and the worker's clock, in ms; also the replay window. */
export const REQUEST_SKEW_MS_MAX = 5 * 60_000;
/** Longest header of an IPC frame, in bytes. */
export const IPC_HEADER_BYTES_MAX = 256 * KiB;
/** Longest payload of an IPC frame, in bytes: tensors of one call. */
export const IPC_PAYLOAD_BYTES_MAX = 512 * MiB;
/** Models of one function. */
export const MODELS_MAX = 16;
/** Receipts in a block of a sealed hour; a power of two, so that a block is a subtree. */
export const RECEIPT_BLOCK = 256;
/** Secrets of one function, and the longest value of one, in bytes of UTF-8. */
export const SECRETS_MAX = 32;
export const SECRET_BYTES_MAX = 5 * KiB;
/** Challenges that a KMS keeps open at once; the oldest is dropped. */
export const CHALLENGES_MAX = 10_000;
/** Life of a KMS challenge, in ms. */
export const CHALLENGE_MS = 60_000;
/** Default lease of a model key, in ms (design §5). */
export const KEY_LEASE_MS = 10 * 60_000;
/** How often a KMS says on a stream of lease events that it is alive, in ms; a worker that hears nothing for 3 beats asks for each lease. */
export const LEASE_BEAT_MS = 1000;
/** Default lease of a worker's admission, in ms (design §4). */
export const ADMISSION_LEASE_MS = 60_000;
/** Life of a worker keys document, in ms. */
export const WORKER_KEYS_MS = 24 * 60 * 60_000;
/** Isolates kept ready per sandbox. */
export const ISOLATE_POOL_SIZE = 4;
/** Requests that may wait or run on one worker at once, where it says nothing else. */
export const WORKER_INFLIGHT_MAX = 256;
/** Function versions, and models, that a worker names in its status. */
export const STATUS_ENTRIES_MAX = 1_024;
/** Between two looks at what a worker's status is, and between two messages that say the same, in ms. */
export const STATUS_MS = { look: 100, beat: 2_000 } as const;
/** Fetches of one invocation: at once, in all, and the bytes of their bodies. First guesses. */
export const EGRESS_CONCURRENT_MAX = 8;
export const EGRESS_CALLS_MAX = 200;
export const EGRESS_BYTES_MAX = 4 * 1024 * MiB;
/** Redirects that one fetch follows, as browsers do. */
export const EGRESS_REDIRECTS_MAX = 20;
/** Time for a server to take a connection, TLS included, in ms. */
export const EGRESS_CONNECT_MS = 10_000;
/** Limits of a function when the manifest names none. */
export const DEFAULT_LIMITS = { cpuMs: 10_000, wallMs: 30_000, memoryMb: 128 } as const;
/** Bounds that a manifest's limits must keep. */
export const LIMIT_BOUNDS = {
  cpuMs: 300_000,
  wallMs: 600_000,
  memoryMb: { min: 16, max: 2048 },
  bodyMb: 65_536,
} as const;

/** Largest bodies of a function, in bytes; a manifest's own limits, or the defaults. */
export function bodyLimits(limits: {
  readonly requestMb?: number | undefined;
  readonly responseMb?: number | undefined;
}): {
  readonly requestBytesMax: number;
  readonly responseBytesMax: number;
} {
  return {
    requestBytesMax: limits.requestMb === undefined ? REQUEST_BYTES_MAX : limits.requestMb * MiB,
    responseBytesMax: limits.responseMb === undefined ? RESPONSE_BYTES_MAX : limits.responseMb * MiB,
  };
}

/** Largest response in binary HTTP around a body of `bodyBytesMax` bytes: head, framing, and chunks as small as one byte. */
export const encodedResponseBytesMax = (bodyBytesMax: number): number => 2 * bodyBytesMax + HEAD_BYTES_MAX + 1 * MiB;

/** Largest sealed request around a body of `bodyBytesMax` bytes: head, and lengths and tags of chunks as small as 1 KiB. */
export const sealedRequestBytesMax = (bodyBytesMax: number): number =>
  bodyBytesMax + Math.ceil(bodyBytesMax / 32) + HEAD_BYTES_MAX + 1 * MiB;
