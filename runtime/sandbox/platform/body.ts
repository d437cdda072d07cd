import { domString } from './dom-string.ts';
import { concatBytes } from '../../../proto/bytes.ts';
import { Blob, bytesOfBlob } from './blob.ts';
import { isLoaded } from './lazy.ts';
import { ReadableStream } from './streams.ts';
import { URLSearchParams } from './url.ts';
import { bytesOf, decodeUtf8, encodeUtf8 } from './utf8.ts';

export type BodyInit = string | ArrayBuffer | ArrayBufferView | Blob | URLSearchParams | ReadableStream;
interface Extracted {
  readonly bytes: Uint8Array | null;
  readonly stream: ReadableStream | null;
  /** Media type that the kind of body implies. */
  readonly type: string | null;
}

/** Fetch Standard §5.2, "extract a body". Bytes are copied: the caller may change its own afterwards. */
export function extractBody(init: unknown): Extracted {
  const of = (bytes: Uint8Array, type: string | null = null): Extracted => ({ bytes, stream: null, type });
  if (init === null || init === undefined) return { bytes: null, stream: null, type: null };
  if (isLoaded('streams') && init instanceof ReadableStream) {
    if (init.locked) throw new TypeError('the stream of a body is locked');
    return { bytes: null, stream: init, type: null };
  }
  if (init instanceof ArrayBuffer || ArrayBuffer.isView(init)) return of(bytesOf(init).slice());
  if (isLoaded('blob') && init instanceof Blob) return of(bytesOfBlob(init), init.type === '' ? null : init.type);
  if (isLoaded('url') && init instanceof URLSearchParams)
    return of(encodeUtf8(domString(init)), 'application/x-www-form-urlencoded;charset=UTF-8');
  return of(encodeUtf8(domString(init)), 'text/plain;charset=UTF-8');
}

let takeBody!: (owner: Body) => { bytes: Uint8Array } | { stream: ReadableStream } | undefined;
let teeBody!: (owner: Body) => Extracted;
/** `takeBody` uses the body up and gives its content without a copy. */
export { takeBody, teeBody };

/** What Request and Response have in common. Bytes stay bytes until somebody asks for the stream. */
export class Body {
  #bytes: Uint8Array | null;
  #stream: ReadableStream | null;
  #used = false;

  static {
    takeBody = (owner) => {
      if (owner.bodyUsed || owner.#stream?.locked) throw new TypeError('the body was used before');
      if (owner.#bytes === null && owner.#stream === null) return undefined;
      owner.#used = true;
      return owner.#stream !== null ? { stream: owner.#stream } : { bytes: owner.#bytes ?? new Uint8Array(0) };
    };
    teeBody = (owner) => {
      if (owner.bodyUsed || owner.#stream?.locked) throw new TypeError('the body was used before');
      if (owner.#stream === null) return { bytes: owner.#bytes, stream: null, type: null };
      const [mine, other] = owner.#stream.tee();
      owner.#stream = mine;
      return { bytes: null, stream: other, type: null };
    };
  }
  constructor(content: Extracted) {
    this.#bytes = content.bytes;
    this.#stream = content.stream;
  }
  get body(): ReadableStream | null {
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
    }
    return this.#stream;
  }
  get bodyUsed(): boolean {
    return this.#used || (this.#stream !== null && Reflect.get(this.#stream, '_disturbed') === true);
  }
  async #read(): Promise<Uint8Array<ArrayBufferLike>> {
    const content = takeBody(this);
    if (content === undefined) return new Uint8Array(0);
    if ('bytes' in content) return content.bytes;
    const pieces: Uint8Array[] = [];
    await readStream(content.stream, (piece) => pieces.push(piece));
    return concatBytes(...pieces);
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
    const type =
      (this as unknown as { headers: { get(name: string): string | null } }).headers.get('content-type') ?? '';
    return new Blob([await this.#read()], { type });
  }
}

/** Reads a stream of bytes to its end. */
export async function readStream(stream: ReadableStream, onBytes: (bytes: Uint8Array) => void): Promise<void> {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (!(value instanceof Uint8Array)) {
      const error = new TypeError('a chunk of a body is not a Uint8Array');
      await reader.cancel(error);
      throw error;
    }
    onBytes(value);
  }
}
