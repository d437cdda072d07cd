import { checkFieldName, checkFieldValue, latin1, type Field } from './bhttp-fields.ts';
import { FRAMING } from './bhttp.ts';
import { createByteQueue } from './byte-queue.ts';
import { CfnError } from './errors.ts';
import { HEAD_BYTES_MAX, RESPONSE_BYTES_MAX } from './limits.ts';
import { readVarint, varintLength } from './varint.ts';

/** What an incremental response decoder finds, in this order: informational*, head, content*, trailers. */
export type ResponseEvent =
  | { readonly type: 'informational'; readonly status: number; readonly headers: Field[] }
  | { readonly type: 'head'; readonly status: number; readonly headers: Field[] }
  /** `bytes` is a view of what was pushed, and never empty. */
  | { readonly type: 'content'; readonly bytes: Uint8Array }
  | { readonly type: 'trailers'; readonly trailers: Field[] };

export interface ResponseDecoder {
  /** @throws {CfnError} `CFN_RESPONSE_MALFORMED`; the decoder is of no use afterwards */
  push(bytes: Uint8Array): ResponseEvent[];
  /**
   * Says that no more bytes come. Empty trailers, and empty content before them, may be missing (RFC 9292 §3.8).
   *
   * @throws {CfnError} `CFN_RESPONSE_TRUNCATED`
   */
  end(): ResponseEvent[];
}

const MALFORMED = 'CFN_RESPONSE_MALFORMED';
const INFORMATIONAL_MAX = 8;

/** Decodes one binary HTTP response (RFC 9292), known- or indeterminate-length, as its bytes arrive in pieces of any size. */
export function createResponseDecoder(bodyBytesMax: number = RESPONSE_BYTES_MAX): ResponseDecoder {
  const source = new PushSource();
  const events: ResponseEvent[] = [];
  const parser = parseResponse(source, bodyBytesMax, (event) => events.push(event));
  let ended = false;

  function run(): ResponseEvent[] {
    parser.next();
    return events.splice(0);
  }
  return {
    push(bytes) {
      if (ended) throw new CfnError(MALFORMED, 'bytes come after the end of the response');
      source.append(bytes);
      return run();
    },
    end() {
      if (ended) return [];
      ended = true;
      source.close();
      return run();
    },
  };
}

/** Suspends at each `yield` until more bytes are appended, so that the grammar below reads as it does in the RFC. */
type Step<T> = Generator<undefined, T, undefined>;

function* parseResponse(source: PushSource, bodyBytesMax: number, emit: (event: ResponseEvent) => void): Step<void> {
  const framing = yield* source.varint();
  if (framing !== FRAMING.responseKnown && framing !== FRAMING.responseIndeterminate) {
    throw new CfnError(MALFORMED, 'framing indicator is not one of a response');
  }
  const indeterminate = framing === FRAMING.responseIndeterminate;
  for (let informational = 0; ; informational++) {
    const status = yield* source.varint();
    if (status < 100 || status > 599) throw new CfnError(MALFORMED, 'status is outside 100 to 599');
    const headers = yield* parseFields(source, indeterminate);
    emit({ type: status < 200 ? 'informational' : 'head', status, headers });
    if (status >= 200) break;
    if (informational === INFORMATIONAL_MAX)
      throw new CfnError(MALFORMED, `more than ${INFORMATIONAL_MAX} informational responses`);
  }
  yield* parseContent(source, indeterminate, bodyBytesMax, emit);
  const trailers = (yield* source.atEnd()) ? [] : yield* parseFields(source, indeterminate);
  emit({ type: 'trailers', trailers });
  while (!(yield* source.atEnd())) {
    if ((yield* source.take(1))[0] !== 0) throw new CfnError(MALFORMED, 'padding is not zero');
  }
}

function* parseFields(source: PushSource, indeterminate: boolean): Step<Field[]> {
  const sectionBytes = indeterminate ? HEAD_BYTES_MAX : yield* source.varint();
  if (sectionBytes > HEAD_BYTES_MAX) throw new CfnError(MALFORMED, `a field section is over ${HEAD_BYTES_MAX} bytes`);
  const limit = source.consumed + sectionBytes;
  const fields: Field[] = [];
  while (indeterminate || source.consumed < limit) {
    const nameBytes = yield* source.varint();
    if (indeterminate && nameBytes === 0) return fields;
    const name = latin1Checked(yield* source.takeWithin(nameBytes, limit), checkFieldName);
    const valueBytes = yield* source.varint();
    fields.push([name, latin1Checked(yield* source.takeWithin(valueBytes, limit), checkFieldValue)]);
  }
  if (source.consumed > limit) throw new CfnError(MALFORMED, 'a field passes the end of its section');
  return fields;
}

function latin1Checked(bytes: Uint8Array, check: typeof checkFieldName): string {
  check(bytes, MALFORMED);
  return latin1(bytes);
}

function* parseContent(
  source: PushSource,
  indeterminate: boolean,
  bodyBytesMax: number,
  emit: (event: ResponseEvent) => void,
): Step<void> {
  if (yield* source.atEnd()) return;
  let total = 0;
  for (;;) {
    let remaining = yield* source.varint();
    const last = !indeterminate || remaining === 0;
    total += remaining;
    if (total > bodyBytesMax) throw new CfnError(MALFORMED, `the response body is over ${bodyBytesMax} bytes`);
    while (remaining > 0) {
      const bytes = yield* source.takeSome(remaining);
      remaining -= bytes.length;
      emit({ type: 'content', bytes });
    }
    if (last) return;
  }
}

/** Bytes that came and were not read yet. */
class PushSource {
  readonly #queue = createByteQueue();
  #closed = false;
  /** Bytes read so far, over all pushes. */
  consumed = 0;

  append(bytes: Uint8Array): void {
    this.#queue.append(bytes);
  }
  close(): void {
    this.#closed = true;
  }
  /** Waits for a byte or the end. */
  *atEnd(): Step<boolean> {
    while (this.#queue.length === 0) {
      if (this.#closed) return true;
      yield;
    }
    return false;
  }
  *take(length: number): Step<Uint8Array> {
    while (this.#queue.length < length) {
      if (this.#closed) throw new CfnError('CFN_RESPONSE_TRUNCATED', 'the response ends in the middle');
      yield;
    }
    this.consumed += length;
    return this.#queue.take(length);
  }
  /** One byte or more, as many as came in one piece, at most `limit`. */
  *takeSome(limit: number): Step<Uint8Array> {
    if (yield* this.atEnd()) throw new CfnError('CFN_RESPONSE_TRUNCATED', 'the response ends within its content');
    return yield* this.take(Math.min(limit, this.#queue.firstLength));
  }
  *takeWithin(length: number, limit: number): Step<Uint8Array> {
    if (length > limit - this.consumed)
      throw new CfnError(MALFORMED, 'a field passes the end or the limit of its section');
    return yield* this.take(length);
  }
  *varint(): Step<number> {
    if (yield* this.atEnd()) throw new CfnError('CFN_RESPONSE_TRUNCATED', 'the response ends in the middle');
    const bytes = yield* this.take(varintLength(this.#queue.firstByte));
    return readVarint(bytes, 0, MALFORMED);
  }
}
