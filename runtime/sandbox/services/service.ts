/**
 * What the process does for the platform in an isolate because it needs native code: cryptography, compression. A request is a plain
 * object that was copied out of the isolate. It is parsed as if the function itself had sent it: the function may have taken over the isolate.
 */
export interface Service {
  /**
   * Answers with something that can be copied into the isolate. Buffers of the request are overwritten afterwards, those of the answer
   * handed over.
   *
   * @throws {Refusal} what the function's code sees; {ZodError} when the request is none
   */
  answer(request: unknown): Promise<unknown>;
  /** Drops all that the invocation left here. */
  close(): void;
}

/**
 * Charges CPU time, in ms, to the invocation before it is spent, so that no single call can go past the limit.
 *
 * @throws {Refusal} when the invocation has not that much left; it ends then
 */
export type Charge = (ms: number) => void;

/** Becomes an exception in the isolate: `TypeError`, or a DOMException of that name. */
export class Refusal extends Error {
  override readonly name: RefusalName;
  constructor(name: RefusalName, message: string) {
    super(message);
    this.name = name;
  }
}
export type RefusalName = (typeof REFUSAL_NAMES)[number];
const REFUSAL_NAMES = [
  'TypeError',
  'DataError',
  'InvalidAccessError',
  'NotSupportedError',
  'OperationError',
  'QuotaExceededError',
  'SyntaxError',
] as const;

export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  const name = REFUSAL_NAMES.find((known) => error instanceof Error && error.name === known);
  // The message of a library could quote what it was given.
  return new Refusal(name ?? 'OperationError', 'the operation failed');
}
