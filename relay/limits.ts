import { LIMIT_BOUNDS } from '../proto/index.ts';

/** Requests under way at once; each holds two sockets and what waits in them. */
export const RELAYED_MAX = 2_000;
/** Largest head of a request, in bytes: what a client of ours sends has a tenth of that. */
export const HEAD_BYTES_MAX = 8 * 1024;
/** Time for a request's head, in ms. */
export const HEAD_MS_MAX = 10_000;
/** Time without a byte in either direction, in ms: a function may think for as long as its wall limit. */
export const SILENT_MS_MAX = LIMIT_BOUNDS.wallMs + 30_000;
/** Time that a clean stop gives to requests under way, in ms. */
export const DRAIN_MS_MAX = 10_000;
