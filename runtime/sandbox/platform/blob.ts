import { domString } from './dom-string.ts';
import { bytesOf, decodeUtf8, encodeUtf8 } from './utf8.ts';
import { ReadableStream } from './streams.ts';
import { dictionaryOf, enumOf, iterableOf, needArguments } from './web-idl.ts';
import { concatBytes } from '../../../proto/bytes.ts';

let bytesOfBlob!: (blob: Blob) => Uint8Array<ArrayBuffer>;
let copyBlob!: (blob: Blob) => Blob;
/** `copyBlob` gives another object with the same bytes, and name where it is a file. */
export { bytesOfBlob, copyBlob };

const normalType = (type: unknown): string => {
  const text = domString(type);
  return /^[\x20-\x7e]*$/.test(text) ? text.toLowerCase() : '';
};
/** `[Clamp] long long`: to the nearest whole number, of two the even one. */
function clamp(value: unknown): number {
  const number = Number(value) || 0;
  const near = Math.round(number);
  return near - number === 0.5 && near % 2 !== 0 ? near - 1 : near;
}
/** Largest piece of `stream()`, in bytes. */
const PIECE_BYTES = 65_536;

/** File API §3: bytes that do not change, with a media type. */
export class Blob {
  #bytes: Uint8Array<ArrayBuffer>;
  #type: string;

  static {
    bytesOfBlob = (blob) => blob.#bytes;
    copyBlob = (blob) => {
      const copy = blob instanceof File ? new File([], blob.name, blob) : new Blob();
      copy.#bytes = blob.#bytes;
      copy.#type = blob.#type;
      return copy;
    };
  }
  constructor(parts: unknown = [], options: unknown = {}) {
    // Each part is read while the next may still change.
    const pieces: (string | ArrayBuffer | ArrayBufferView)[] = [];
    for (const part of iterableOf(parts, 'the parts of a blob')) {
      if (part instanceof Blob) pieces.push(part.#bytes);
      else if (part instanceof ArrayBuffer || ArrayBuffer.isView(part)) pieces.push(part);
      else pieces.push(domString(part));
    }
    const given = dictionaryOf(options);
    const endings =
      given['endings'] === undefined ? '' : enumOf(given['endings'], ['transparent', 'native'], 'endings');
    this.#type = given['type'] === undefined ? '' : normalType(given['type']);
    const bytes = pieces.map((piece) => {
      if (typeof piece !== 'string') return bytesOf(piece);
      return encodeUtf8(endings === 'native' ? piece.replace(/\r\n?|\n/g, '\n') : piece);
    });
    this.#bytes = concatBytes(...bytes);
  }
  get size(): number {
    return this.#bytes.length;
  }
  get type(): string {
    return this.#type;
  }
  slice(...range: readonly unknown[]): Blob {
    const [start, end, type] = range;
    const part = new Blob([], { type: type ?? '' });
    part.#type = type === undefined ? '' : normalType(type);
    part.#bytes = this.#bytes.slice(start === undefined ? 0 : clamp(start), end === undefined ? this.size : clamp(end));
    return part;
  }
  async arrayBuffer(): Promise<ArrayBuffer> {
    return this.#bytes.slice().buffer;
  }
  async bytes(): Promise<Uint8Array> {
    return this.#bytes.slice();
  }
  async text(): Promise<string> {
    return decodeUtf8(this.#bytes);
  }
  stream(): ReadableStream {
    const bytes = this.#bytes;
    let at = 0;
    return new ReadableStream({
      type: 'bytes',
      pull(controller) {
        const piece = bytes.slice(at, at + PIECE_BYTES); // a copy, for the reader may transfer it
        at += piece.length;
        if (piece.length > 0) return controller.enqueue(piece);
        controller.close();
        controller.byobRequest?.respond(0);
      },
    });
  }
}

export class File extends Blob {
  readonly #name: string;
  readonly #lastModified: number;
  constructor(parts: unknown, name: unknown, options: unknown = {}) {
    needArguments(arguments.length, 2, 'File');
    super(parts, options);
    this.#name = domString(name).toWellFormed();
    const modified = dictionaryOf(options)['lastModified'];
    this.#lastModified = modified === undefined ? Date.now() : Math.trunc(Number(modified)) || 0;
  }
  get name(): string {
    return this.#name;
  }
  get lastModified(): number {
    return this.#lastModified;
  }
  get webkitRelativePath(): string {
    void this.#name;
    return '';
  }
}
