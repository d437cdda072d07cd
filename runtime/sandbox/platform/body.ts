import { domString } from './dom-string.ts';
import { concatBytes } from '../../../proto/bytes.ts';
import { Blob, bytesOfBlob } from './blob.ts';
import { encodeFormData, isFormData, parseFormData, type FormData } from './form-data.ts';
import { isLoaded } from './lazy.ts';
import { extractMimeType, formatMimeType } from './mime-type.ts';
import { ReadableStream, type ReadableStreamDefaultReader } from './streams.ts';
import { structuredClone } from './structured-clone.ts';
import { URLSearchParams } from './url.ts';
import { bytesOf, decodeUtf8, encodeUtf8 } from './utf8.ts';

export type BodyInit = string | ArrayBuffer | ArrayBufferView | Blob | URLSearchParams | FormData | ReadableStream;
/** Bytes that are still coming. Asked for one piece at a time. */
export interface ByteSource {
  /** `undefined` at the end. Rejects where the body breaks off. */
  pull(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Nobody will pull again. */
  drop(): void;
}
export interface Extracted {
  readonly bytes: Uint8Array | null;
  readonly source?: ByteSource | undefined;
  readonly stream: ReadableStream | null;
  /** Media type that the kind of body implies. */
  readonly type: string | null;
}

/** Fetch Standard §5.2, "extract a body". Bytes are copied: the caller may change its own afterwards. */
export function extractBody(init: unknown, keepalive = false): Extracted {
  const of = (bytes: Uint8Array, type: string | null = null): Extracted => ({ bytes, stream: null, type });
  if (init === null || init === undefined) return { bytes: null, stream: null, type: null };
  if (isLoaded('streams') && init instanceof ReadableStream) {
    if (keepalive) throw new TypeError('a request with keepalive has no stream as its body');
    if (init.locked || isDisturbed(init)) throw new TypeError('the stream of a body is locked, or was read before');
    return { bytes: null, stream: init, type: null };
  }
  if (init instanceof ArrayBuffer || ArrayBuffer.isView(init)) return of(bytesOf(init).slice());
  if (isLoaded('blob') && init instanceof Blob) return of(bytesOfBlob(init), init.type === '' ? null : init.type);
  if (isLoaded('url') && init instanceof URLSearchParams)
    return of(encodeUtf8(domString(init)), 'application/x-www-form-urlencoded;charset=UTF-8');
  if (isLoaded('form-data') && isFormData(init)) {
    const { bytes, type } = encodeFormData(init);
    return of(bytes, type);
  }
  return of(encodeUtf8(domString(init)), 'text/plain;charset=UTF-8');
}
const isDisturbed = (stream: ReadableStream): boolean => Reflect.get(stream, '_disturbed') === true;

export type Content = { bytes: Uint8Array } | { source: ByteSource } | { stream: ReadableStream };
let takeBody!: (owner: Body) => Content | undefined;
let teeBody!: (owner: Body) => Extracted;
let holdsBody!: (owner: Body) => boolean;
/** `takeBody` uses the body up and gives its content without a copy. */
export { takeBody, teeBody, holdsBody };

/** What Request and Response have in common. Bytes stay bytes until somebody asks for the stream. */
export class Body {
  #bytes: Uint8Array | null;
  #source: ByteSource | undefined;
  #stream: ReadableStream | null;
  #used = false;

  static {
    holdsBody = (owner) => owner.#bytes !== null || owner.#source !== undefined || owner.#stream !== null;
    takeBody = (owner) => {
      if (owner.bodyUsed || owner.#stream?.locked) throw new TypeError('the body was used before');
      if (owner.#bytes === null && owner.#source === undefined && owner.#stream === null) return undefined;
      owner.#used = true;
      if (owner.#source !== undefined) return { source: owner.#source };
      return owner.#stream !== null ? { stream: owner.#stream } : { bytes: owner.#bytes ?? new Uint8Array(0) };
    };
    teeBody = (owner) => {
      if (owner.bodyUsed || owner.#stream?.locked) throw new TypeError('the body was used before');
      const stream = owner.#source === undefined ? owner.#stream : owner.body;
      if (stream === null) return { bytes: owner.#bytes, stream: null, type: null };
      const [mine, other] = stream.tee();
      owner.#stream = mine;
      return { bytes: null, stream: cloning(other), type: null };
    };
  }
  constructor(content: Extracted) {
    this.#bytes = content.bytes;
    this.#source = content.source;
    this.#stream = content.stream;
  }
  get body(): ReadableStream | null {
    if (this.#source !== undefined) {
      const source = this.#source;
      this.#source = undefined;
      this.#stream = streamOf(source);
      if (this.#used) void this.#stream.getReader(); // read to its end already, or being read
    }
    if (this.#stream === null && this.#bytes !== null) {
      const bytes = this.#bytes;
      let at = this.#used ? bytes.length : 0;
      this.#bytes = null;
      this.#stream = new ReadableStream({
        type: 'bytes',
        pull(controller) {
          const piece = bytes.slice(at, at + 65_536); // a copy, for the reader may transfer it
          at += piece.length;
          if (piece.length > 0) return controller.enqueue(piece);
          controller.close();
          controller.byobRequest?.respond(0);
        },
      });
      if (this.#used) this.#stream.getReader(); // somebody is reading it, or has
    }
    return this.#stream;
  }
  get bodyUsed(): boolean {
    return this.#used || (this.#stream !== null && isDisturbed(this.#stream));
  }
  async #read(): Promise<Uint8Array<ArrayBufferLike>> {
    const content = takeBody(this);
    if (content === undefined) return new Uint8Array(0);
    if ('bytes' in content) return content.bytes;
    const pieces: Uint8Array[] = [];
    if ('source' in content) {
      for (let piece = await content.source.pull(); piece !== undefined; piece = await content.source.pull())
        pieces.push(piece);
    } else await readStream(content.stream, (piece) => void pieces.push(piece));
    return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : concatBytes(...pieces);
  }
  async arrayBuffer(): Promise<ArrayBuffer> {
    return (await this.bytes()).buffer;
  }
  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#read()).slice();
  }
  async text(): Promise<string> {
    return decodeUtf8(await this.#read());
  }
  async json(): Promise<unknown> {
    return JSON.parse(decodeUtf8(await this.#read()));
  }
  async blob(): Promise<Blob> {
    const type = extractMimeType(contentTypeOf(this));
    return new Blob([await this.#read()], { type: type === undefined ? '' : formatMimeType(type) });
  }
  async formData(): Promise<FormData> {
    return parseFormData(await this.#read(), contentTypeOf(this));
  }
}

/** Makes the members of Body own members of an interface: for Web IDL it is a mixin, which nobody sees. */
export function mixInBody(Interface: { readonly prototype: object }): void {
  const { constructor: _, ...members } = Object.getOwnPropertyDescriptors(Body.prototype);
  Object.defineProperties(Interface.prototype, members);
  Object.setPrototypeOf(Interface.prototype, Object.prototype);
}

function streamOf(source: ByteSource): ReadableStream {
  return new ReadableStream({
    type: 'bytes',
    async pull(controller) {
      const piece = await source.pull();
      if (piece !== undefined) return controller.enqueue(piece);
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel: () => source.drop(),
  });
}

/** Chunks of the second branch of a tee are clones (Streams Standard, "ReadableStreamTee" with cloneForBranch2). */
function cloning(stream: ReadableStream): ReadableStream {
  const reader = stream.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(structuredClone(value));
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

const contentTypeOf = (body: Body): string | null =>
  (body as unknown as { headers: { get(name: string): string | null } }).headers.get('content-type');

/** Reads a stream of bytes to its end, as fast as `onBytes` takes them. */
export async function readStream(
  stream: ReadableStream,
  onBytes: (bytes: Uint8Array) => void | Promise<void>,
  onReader?: (reader: ReadableStreamDefaultReader) => void,
): Promise<void> {
  const reader = stream.getReader();
  onReader?.(reader);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (!(value instanceof Uint8Array)) {
      const error = new TypeError('a chunk of a body is not a Uint8Array');
      await reader.cancel(error);
      throw error;
    }
    const taken = onBytes(value);
    if (taken !== undefined) await taken;
  }
}
