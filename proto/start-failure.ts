import { CfnError, toCfnError } from './errors.ts';

/** What Node says of a call to the operating system that did not work; its message names the file, or the address. */
interface SystemError extends Error {
  readonly code: string;
  readonly syscall: string;
}

/**
 * Why a service did not start. Nobody has sent it anything yet, so what the operating system refused can be said, and whoever
 * started it can mend that.
 *
 * @returns `CFN_USAGE` for flags and for an address that cannot be listened on, `CFN_STORE_FAILED` for a file; else as `toCfnError`
 */
export function startFailure(cause: unknown): CfnError {
  if (isFlagError(cause)) return new CfnError('CFN_USAGE', cause.message, { cause });
  if (isSystemError(cause) && ['listen', 'bind', 'getaddrinfo'].includes(cause.syscall))
    return new CfnError('CFN_USAGE', `cannot listen: ${cause.message}`, { cause });
  if (isSystemError(cause) && 'path' in cause) return new CfnError('CFN_STORE_FAILED', cause.message, { cause });
  return toCfnError(cause);
}

function isFlagError(cause: unknown): cause is Error {
  return cause instanceof TypeError && 'code' in cause && String(cause.code).startsWith('ERR_PARSE_ARGS');
}

function isSystemError(cause: unknown): cause is SystemError {
  return cause instanceof Error && 'code' in cause && 'syscall' in cause && typeof cause.syscall === 'string';
}
