import { CfnError, type ErrorCode } from '../proto/index.ts';
import type { PlainRequest } from './seal.ts';

/** Refusals that say that no worker has begun with the request. The gateway's own are its word only: it could make a request run twice. */
const UNSEEN: ReadonlySet<ErrorCode> = new Set([
  'CFN_KEY_CONFIG_STALE',
  'CFN_WORKER_UNAVAILABLE',
  'CFN_VERSION_MISMATCH',
  'CFN_BUSY',
]);
/** After these, what we know of workers is out of date. */
const OUTDATED: ReadonlySet<ErrorCode> = new Set([
  'CFN_KEY_CONFIG_STALE',
  'CFN_WORKER_UNAVAILABLE',
  'CFN_VERSION_MISMATCH',
]);
/** The request may have run. */
const LOST: ReadonlySet<ErrorCode> = new Set(['CFN_WORKER_LOST', 'CFN_GATEWAY_UNREACHABLE', 'CFN_RESPONSE_TRUNCATED']);
/** RFC 9110 §9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

/** Requests sealed for one call, at most. */
export const SEALED_MAX = 3;

/** Whether a request may be sealed a second time after this error: nobody has seen it, or it does not matter that somebody did. */
export function mayRepeat(error: unknown, request: PlainRequest): error is CfnError {
  if (!(error instanceof CfnError) || isStream(request)) return false; // a stream that was read is gone
  return UNSEEN.has(error.code) || (LOST.has(error.code) && isIdempotent(request));
}

export const isOutdated = ({ code }: CfnError): boolean => OUTDATED.has(code);

export const isStream = ({ body }: PlainRequest): boolean => body !== undefined && !(body instanceof Uint8Array);

/** By its method, or marked by the caller (draft-ietf-httpapi-idempotency-key-header). */
const isIdempotent = ({ method, headers }: PlainRequest): boolean =>
  IDEMPOTENT.has(method) || headers.some(([name]) => name.toLowerCase() === 'idempotency-key');
