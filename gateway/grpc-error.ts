import { status, type ServiceError } from '@grpc/grpc-js';
import { CfnError, isErrorCode } from '../proto/index.ts';
import { GRPC_CODE_KEY } from '../proto/grpc.ts';

/**
 * A failed call to a worker as our error. The worker's own code wins; without one, the failure is the connection's: it is lost,
 * or the deadline passed. The message of a failure without our code is not passed on, since nobody vouches for what is in it.
 */
export function fromGrpcError(cause: unknown): CfnError {
  if (cause instanceof CfnError) return cause;
  if (!isServiceError(cause)) return new CfnError('CFN_INTERNAL', 'internal error', { cause });
  const [code] = cause.metadata.get(GRPC_CODE_KEY);
  if (isErrorCode(code)) return new CfnError(code, cause.details.slice(0, 1000), { cause });
  switch (cause.code) {
    case status.DEADLINE_EXCEEDED:
      return new CfnError('CFN_DEADLINE', 'the worker did not answer in time', { cause });
    case status.CANCELLED:
      return new CfnError('CFN_ABORTED', 'the call was cancelled', { cause });
    default:
      return new CfnError('CFN_WORKER_LOST', `the worker went away (gRPC status ${status[cause.code]})`, { cause });
  }
}

function isServiceError(cause: unknown): cause is ServiceError {
  return (
    cause instanceof Error &&
    'code' in cause &&
    typeof cause.code === 'number' &&
    'metadata' in cause &&
    'details' in cause
  );
}
