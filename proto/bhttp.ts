import {
  checkFieldName,
  checkFieldValue,
  checkMethod,
  checkVisible,
  fromLatin1,
  latin1,
  type Field,
} from './bhttp-fields.ts';
import { concatBytes, equalBytes } from './bytes.ts';
import { CfnError, type ErrorCode } from './errors.ts';
import { HEAD_BYTES_MAX, REQUEST_BYTES_MAX } from './limits.ts';
import { encodeVarint, readVarint, varintBytes, varintLength, writeVarint } from './varint.ts';

/** Binary HTTP (RFC 9292): requests, and the pieces of a streamed response. Reading responses: `bhttp-response.ts`. */
export interface RequestHead {
  /** As sent, for example `POST`. */
  readonly method: string;
  readonly scheme: string;
  readonly authority: string;
  /** With the query. */
  readonly path: string;
  /** Names are written in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}
export interface DecodedRequest {
  method: string;
  scheme: string;
  authority: string;
  path: string;
  headers: Field[];
  /** A view of the input, unless the content came in several chunks: then a copy. */
  body: Uint8Array;
  trailers: Field[];
}

/** Framing indicators, RFC 9292 §3.3. */
export const FRAMING = {
  requestKnown: 0,
  responseKnown: 1,
  requestIndeterminate: 2,
  responseIndeterminate: 3,
} as const;

const REQUEST = 'CFN_REQUEST_MALFORMED';

/** Ends the content of an indeterminate-length message. Shared: do not write to it. */
export const CONTENT_END: Uint8Array<ArrayBuffer> = new Uint8Array(1);

// ---- writing

/**
 * A known-length request.
 *
 * @throws {CfnError} `CFN_REQUEST_MALFORMED`, as for every request written or read here
 */
export function encodeRequest(request: RequestHead & { readonly body: Uint8Array }): Uint8Array<ArrayBuffer> {
  const fields = encodeFields(request.headers, REQUEST);
  const { body } = request;
  const parts = [
    Uint8Array.of(FRAMING.requestKnown),
    ...controlData(request),
    encodeVarint(fields.length),
    fields,
    encodeVarint(body.length),
    body,
  ];
  return concatBytes(...parts, CONTENT_END); // no trailers
}

/** Framing, control data and header section of an indeterminate-length request; content chunks, CONTENT_END and trailers follow. */
export function encodeRequestHead(head: RequestHead): Uint8Array<ArrayBuffer> {
  return concatBytes(
    Uint8Array.of(FRAMING.requestIndeterminate),
    ...controlData(head),
    encodeFields(head.headers, REQUEST),
    CONTENT_END,
  );
}

/**
 * Framing, status and header section of an indeterminate-length response; content chunks, CONTENT_END and trailers follow.
 *
 * @throws {CfnError} `CFN_RESPONSE_MALFORMED`; status is a final one, 200 to 599
 */
export function encodeResponseHead(status: number, headers: RequestHead['headers']): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new CfnError('CFN_RESPONSE_MALFORMED', 'the status of a response is from 200 to 599');
  }
  return concatBytes(
    Uint8Array.of(FRAMING.responseIndeterminate),
    encodeVarint(status),
    encodeFields(headers, 'CFN_RESPONSE_MALFORMED'),
    CONTENT_END,
  );
}

/** One content chunk. No bytes in, no bytes out: a chunk of length zero would end the content. */
export function encodeContentChunk(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.length === 0) return new Uint8Array(0);
  const out = new Uint8Array(varintBytes(bytes.length) + bytes.length);
  out.set(bytes, writeVarint(out, 0, bytes.length));
  return out;
}

/** The trailer section of an indeterminate-length message, its terminator included. */
export function encodeTrailers(
  fields: RequestHead['headers'],
  code: ErrorCode = 'CFN_RESPONSE_MALFORMED',
): Uint8Array<ArrayBuffer> {
  return concatBytes(encodeFields(fields, code), CONTENT_END);
}

function controlData({ method, scheme, authority, path }: RequestHead): Uint8Array[] {
  const values = [method, scheme, authority, path].map((text) => fromLatin1(text, REQUEST)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  checkControlData(...values);
  return values.flatMap((bytes) => [encodeVarint(bytes.length), bytes]);
}

function encodeFields(fields: RequestHead['headers'], code: ErrorCode): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const [rawName, rawValue] of fields) {
    const name = fromLatin1(rawName.toLowerCase(), code);
    const value = fromLatin1(rawValue, code);
    checkFieldName(name, code);
    checkFieldValue(value, code);
    parts.push(encodeVarint(name.length), name, encodeVarint(value.length), value);
  }
  const out = concatBytes(...parts);
  if (out.length > HEAD_BYTES_MAX) throw new CfnError(code, `a field section is over ${HEAD_BYTES_MAX} bytes`);
  return out;
}

// ---- reading requests

/**
 * Decodes a request, known- or indeterminate-length. Empty trailers, and empty content before them, may be missing at the end
 * (RFC 9292 §3.8); zero bytes may follow, anything else is refused.
 *
 * @throws {CfnError} `CFN_REQUEST_MALFORMED`; `CFN_BODY_TOO_LARGE` over REQUEST_BYTES_MAX
 */
export function decodeRequest(bytes: Uint8Array): DecodedRequest {
  const cursor = new Cursor(bytes);
  const { indeterminate, control } = readControl(cursor);
  const headers: Field[] = [];
  readFields(cursor, indeterminate, (name, value) => headers.push([latin1(name), latin1(value)]));
  const body = cursor.atEnd ? bytes.subarray(bytes.length) : readContent(cursor, indeterminate);
  const trailers: Field[] = [];
  if (!cursor.atEnd) readFields(cursor, indeterminate, (name, value) => trailers.push([latin1(name), latin1(value)]));
  cursor.finishPadding();
  const [method, scheme, authority, path] = control;
  return {
    method: latin1(method),
    scheme: latin1(scheme),
    authority: latin1(authority),
    path: latin1(path),
    headers,
    body,
    trailers,
  };
}

/**
 * Finds header fields of a request without making JavaScript strings of anything in it: strings cannot be wiped. Values are views of
 * the input. Reads the head only, so that content may still be missing. A field that comes twice is refused.
 *
 * @throws {CfnError} `CFN_REQUEST_MALFORMED`
 */
export function scanRequestFields(bytes: Uint8Array, names: readonly string[]): ReadonlyMap<string, Uint8Array> {
  const wanted = names.map((name) => [name, fromLatin1(name, REQUEST)] as const);
  const found = new Map<string, Uint8Array>();
  const cursor = new Cursor(bytes);
  const { indeterminate } = readControl(cursor);
  readFields(cursor, indeterminate, (name, value) => {
    for (const [text, raw] of wanted) {
      if (!equalBytes(name, raw)) continue;
      if (found.has(text)) throw new CfnError(REQUEST, `field ${text} comes twice`);
      found.set(text, value);
    }
  });
  return found;
}

type Control = readonly [method: Uint8Array, scheme: Uint8Array, authority: Uint8Array, path: Uint8Array];

export function checkControlData(
  method: Uint8Array,
  scheme: Uint8Array,
  authority: Uint8Array,
  path: Uint8Array,
): void {
  checkMethod(method, REQUEST);
  checkVisible(scheme, 'the scheme', REQUEST);
  checkVisible(authority, 'the authority', REQUEST);
  checkVisible(path, 'the path', REQUEST);
  if (path.length === 0) throw new CfnError(REQUEST, 'the path is empty');
}

function readControl(cursor: Cursor): { indeterminate: boolean; control: Control } {
  const framing = cursor.varint('framing indicator');
  if (framing !== FRAMING.requestKnown && framing !== FRAMING.requestIndeterminate)
    throw new CfnError(REQUEST, 'framing indicator is not one of a request');
  const control: Control = [
    cursor.headPart('method'),
    cursor.headPart('scheme'),
    cursor.headPart('authority'),
    cursor.headPart('path'),
  ];
  checkControlData(...control);
  return { indeterminate: framing === FRAMING.requestIndeterminate, control };
}

function readFields(
  cursor: Cursor,
  indeterminate: boolean,
  visit: (name: Uint8Array, value: Uint8Array) => void,
): void {
  const sectionBytes = indeterminate ? undefined : cursor.varint('field section length');
  if (sectionBytes !== undefined && sectionBytes > HEAD_BYTES_MAX)
    throw new CfnError(REQUEST, `a field section is over ${HEAD_BYTES_MAX} bytes`);
  const section = sectionBytes === undefined ? cursor : new Cursor(cursor.take(sectionBytes, 'field section'));
  const start = section.offset;
  while (indeterminate || !section.atEnd) {
    const nameBytes = section.varint('field name length');
    if (indeterminate && nameBytes === 0) return;
    const name = section.take(nameBytes, 'field name');
    const value = section.headPart('field value');
    if (section.offset - start > HEAD_BYTES_MAX)
      throw new CfnError(REQUEST, `a field section is over ${HEAD_BYTES_MAX} bytes`);
    checkFieldName(name, REQUEST);
    checkFieldValue(value, REQUEST);
    visit(name, value);
  }
}

function readContent(cursor: Cursor, indeterminate: boolean): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for (;;) {
    const length = cursor.varint('content length');
    total += length;
    if (total > REQUEST_BYTES_MAX)
      throw new CfnError('CFN_BODY_TOO_LARGE', `the request body is over ${REQUEST_BYTES_MAX} bytes`);
    const chunk = cursor.take(length, 'content');
    if (!indeterminate) return chunk;
    if (length === 0) break;
    chunks.push(chunk);
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : concatBytes(...chunks);
}

/** Bounds-checked position in a whole request. */
class Cursor {
  readonly #bytes: Uint8Array;
  offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  get atEnd(): boolean {
    return this.offset === this.#bytes.length;
  }
  take(length: number, what: string): Uint8Array {
    if (length > this.#bytes.length - this.offset) throw new CfnError(REQUEST, `${what} ends past the input`);
    this.offset += length;
    return this.#bytes.subarray(this.offset - length, this.offset);
  }
  varint(what: string): number {
    const at = this.offset;
    this.take(varintLength(this.take(1, what)[0] ?? 0) - 1, what);
    return readVarint(this.#bytes, at, REQUEST);
  }
  /** A length and that many bytes, as in control data and fields. */
  headPart(what: string): Uint8Array {
    const length = this.varint(`${what} length`);
    if (length > HEAD_BYTES_MAX) throw new CfnError(REQUEST, `${what} is over ${HEAD_BYTES_MAX} bytes`);
    return this.take(length, what);
  }
  finishPadding(): void {
    while (!this.atEnd) if (this.take(1, 'padding')[0] !== 0) throw new CfnError(REQUEST, 'padding is not zero');
  }
}
