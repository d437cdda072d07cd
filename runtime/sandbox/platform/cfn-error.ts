import type { ErrorCode } from '../../../proto/errors.ts';

/** Stands in for `proto/errors.ts` in the platform bundle: isolates need no table of remedies. */
export class CfnError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
