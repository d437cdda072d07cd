import { CfnError } from '../../../proto/errors.ts';

/** Puts a private field on an object that is not of this class: a mark that other code can neither read, copy nor forge. */
class Marked extends (function (object: object) {
  return object;
} as unknown as new (object: object) => object) {
  readonly #code: string;
  constructor(object: object, code: string) {
    super(object);
    this.#code = code;
  }
  static codeOf(this: void, object: object): string | undefined {
    return #code in object ? (object as Marked).#code : undefined;
  }
}
const { codeOf } = Marked;

/** An error of ours inside the function: `error.code` for its code to read, and a mark by which we know it when it comes back uncaught. */
export function hostError(code: string, message: string): Error & { code: string } {
  const error = Object.assign(new Error(message), { code });
  new Marked(error, code);
  return error;
}

/** The outcome that an uncaught error stands for. Only errors made by us have a code of their own. */
export function outcomeOf(error: unknown): string {
  try {
    return codeOrThrew(error);
  } catch {
    return 'CFN_FUNCTION_THREW'; // a proxy whose traps throw
  }
}

function codeOrThrew(error: unknown): string {
  if (error instanceof CfnError) return error.code; // of the platform's own parsing; the class is not reachable from outside
  if (typeof error !== 'object' || error === null) return 'CFN_FUNCTION_THREW';
  return codeOf(error) ?? (isAllocationFailure(error) ? 'CFN_LIMIT_MEMORY' : 'CFN_FUNCTION_THREW');
}

/** V8's words when the isolate's allocator refuses. A function that fakes them only blames itself for the memory. */
function isAllocationFailure(error: object): boolean {
  return error instanceof RangeError && error.message === 'Array buffer allocation failed';
}
