import { checkFieldName, checkFieldValue } from './bhttp-fields.ts';
import { checkControlData, FRAMING } from './bhttp.ts';
import { CfnError } from './errors.ts';
import { HEAD_BYTES_MAX } from './limits.ts';
import { readVarint, varintLength } from './varint.ts';

/** What a splitter finds, in this order: head, content*, end. */
export type RequestEvent =
  | {
      readonly type: 'head';
      /** Framing, control data and header section: by themselves a request without content. Owned by the receiver. */
      readonly bytes: Uint8Array<ArrayBuffer>;
      /** Length of the content, where the framing tells it before. */
      readonly contentBytes: number | undefined;
    }
  /** `bytes` is a view of what was pushed, and never empty. */
  | { readonly type: 'content'; readonly bytes: Uint8Array }
  /** Content and trailers are whole. Only padding may follow. */
  | { readonly type: 'end' };

export interface RequestSplitter {
  /** @throws {CfnError} `CFN_REQUEST_MALFORMED`, `CFN_BODY_TOO_LARGE`; the splitter is of no use afterwards */
  push(bytes: Uint8Array): RequestEvent[];
  /** Says that no more bytes come. Empty trailers, and empty content before them, may be missing (RFC 9292 §3.8). @throws {CfnError} */
  end(): RequestEvent[];
  /** Overwrites what it holds. */
  wipe(): void;
}

const REQUEST = 'CFN_REQUEST_MALFORMED';

/**
 * Takes one binary HTTP request (RFC 9292) apart as its bytes arrive, without making JavaScript strings of anything in it: strings
 * cannot be wiped. Every check of `decodeRequest` is made here, too.
 */
export function createRequestSplitter(contentBytesMax: number): RequestSplitter {
  const intake = new Intake();
  const events: RequestEvent[] = [];
  const parser = split(intake, contentBytesMax, (event) => events.push(event));
  const run = (): RequestEvent[] => {
    parser.next();
    return events.splice(0);
  };
  return {
    push(bytes) {
      intake.give(bytes);
      return run();
    },
    end() {
      intake.close();
      return run();
    },
    wipe: () => intake.wipe(),
  };
}

/** Suspends at each `yield` until more bytes are given, so that the grammar below reads as it does in the RFC. */
type Step<T> = Generator<undefined, T, undefined>;

function* split(intake: Intake, contentBytesMax: number, emit: (event: RequestEvent) => void): Step<void> {
  const framing = yield* intake.varint();
  if (framing !== FRAMING.requestKnown && framing !== FRAMING.requestIndeterminate)
    throw new CfnError(REQUEST, 'framing indicator is not one of a request');
  const indeterminate = framing === FRAMING.requestIndeterminate;
  const control: [start: number, end: number][] = [];
  for (let i = 0; i < 4; i++) control.push(yield* intake.headPart('control data'));
  const [method, scheme, authority, path] = control.map(([start, end]) => intake.kept(start, end));
  if (method && scheme && authority && path) checkControlData(method, scheme, authority, path);
  yield* fields(intake, indeterminate);
  const bytes = intake.takeKept();
  const head = (contentBytes: number | undefined): void => emit({ type: 'head', bytes, contentBytes });
  if (indeterminate) head(undefined);
  if (yield* intake.atEnd()) {
    if (!indeterminate) head(0);
  } else yield* content(intake, contentBytesMax, emit, indeterminate ? undefined : head);
  if (!(yield* intake.atEnd())) yield* fields(intake, indeterminate);
  intake.wipe(); // trailers have no meaning here
  emit({ type: 'end' });
  while (!(yield* intake.atEnd())) {
    if (intake.some(Number.POSITIVE_INFINITY).some((byte) => byte !== 0))
      throw new CfnError(REQUEST, 'padding is not zero');
  }
}

function* fields(intake: Intake, indeterminate: boolean): Step<void> {
  const sectionBytes = indeterminate ? HEAD_BYTES_MAX : yield* intake.varint();
  if (sectionBytes > HEAD_BYTES_MAX) throw new CfnError(REQUEST, `a field section is over ${HEAD_BYTES_MAX} bytes`);
  const limit = intake.consumed + sectionBytes;
  while (indeterminate || intake.consumed < limit) {
    const nameBytes = yield* intake.varint();
    if (indeterminate && nameBytes === 0) return;
    const name = yield* intake.within(nameBytes, limit);
    checkFieldName(intake.kept(...name), REQUEST);
    const value = yield* intake.within(yield* intake.varint(), limit);
    checkFieldValue(intake.kept(...value), REQUEST);
  }
  if (intake.consumed > limit) throw new CfnError(REQUEST, 'a field passes the end of its section');
}

function* content(
  intake: Intake,
  contentBytesMax: number,
  emit: (event: RequestEvent) => void,
  knownLength: ((bytes: number) => void) | undefined,
): Step<void> {
  let total = 0;
  for (;;) {
    let remaining = yield* intake.varint();
    intake.wipe();
    knownLength?.(remaining);
    const last = knownLength !== undefined || remaining === 0;
    total += remaining;
    if (total > contentBytesMax)
      throw new CfnError('CFN_BODY_TOO_LARGE', `the request body is over ${contentBytesMax} bytes`);
    while (remaining > 0) {
      if (yield* intake.atEnd()) throw new CfnError(REQUEST, 'content ends past the input');
      const bytes = intake.some(remaining);
      remaining -= bytes.length;
      emit({ type: 'content', bytes });
    }
    if (last) return;
  }
}

const KEPT_BYTES = 2048;

/** Bytes as they are given, and those of a section that is read in parts. Keeps exactly what was asked for: the rest stays where it is. */
class Intake {
  #given: Uint8Array = new Uint8Array(0);
  #kept: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #keptBytes = 0;
  #closed = false;
  /** Bytes read so far. */
  consumed = 0;

  give(bytes: Uint8Array): void {
    this.#given = bytes;
  }
  close(): void {
    this.#closed = true;
  }
  wipe(): void {
    this.#kept.fill(0);
    this.#keptBytes = 0;
  }
  kept(start: number, end: number): Uint8Array {
    return this.#kept.subarray(start, end);
  }
  /** All that was kept, and forgets it. */
  takeKept(): Uint8Array<ArrayBuffer> {
    const bytes = this.#kept.subarray(0, this.#keptBytes);
    this.#kept = new Uint8Array(0);
    this.#keptBytes = 0;
    return bytes;
  }
  /** Waits for a byte or the end. */
  *atEnd(): Step<boolean> {
    while (this.#given.length === 0) {
      if (this.#closed) return true;
      yield;
    }
    return false;
  }
  /** Some of the bytes that are there; a view. */
  some(limit: number): Uint8Array {
    const bytes = this.#given.subarray(0, Math.min(limit, this.#given.length));
    this.#given = this.#given.subarray(bytes.length);
    this.consumed += bytes.length;
    return bytes;
  }
  /** Keeps `length` bytes more; gives where they are. */
  *take(length: number): Step<[start: number, end: number]> {
    const start = this.#keptBytes;
    this.#reserve(length);
    while (this.#keptBytes < start + length) {
      if (yield* this.atEnd()) throw new CfnError(REQUEST, 'the request ends in the middle');
      const bytes = this.some(start + length - this.#keptBytes);
      this.#kept.set(bytes, this.#keptBytes);
      this.#keptBytes += bytes.length;
    }
    return [start, start + length];
  }
  *within(length: number, limit: number): Step<[start: number, end: number]> {
    if (length > limit - this.consumed)
      throw new CfnError(REQUEST, 'a field passes the end or the limit of its section');
    return yield* this.take(length);
  }
  *headPart(what: string): Step<[start: number, end: number]> {
    const length = yield* this.varint();
    if (length > HEAD_BYTES_MAX) throw new CfnError(REQUEST, `${what} is over ${HEAD_BYTES_MAX} bytes`);
    return yield* this.take(length);
  }
  *varint(): Step<number> {
    const [start] = yield* this.take(1);
    yield* this.take(varintLength(this.#kept[start] ?? 0) - 1);
    return readVarint(this.#kept, start, REQUEST);
  }
  #reserve(length: number): void {
    const need = this.#keptBytes + length;
    if (need <= this.#kept.length) return;
    const larger = new Uint8Array(new ArrayBuffer(Math.max(KEPT_BYTES, need, 2 * this.#kept.length)));
    larger.set(this.#kept.subarray(0, this.#keptBytes));
    this.#kept.fill(0);
    this.#kept = larger;
  }
}
