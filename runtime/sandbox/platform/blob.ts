import { domString } from './dom-string.ts';
import { bytesOf, decodeUtf8, encodeUtf8 } from './utf8.ts';
import { ReadableStream } from './streams.ts';
import { concatBytes } from '../../../proto/bytes.ts';

let bytesOfBlob!: (blob: Blob) => Uint8Array<ArrayBuffer>;
export { bytesOfBlob };

const normalType = (type: unknown): string => {
  const text = domString(type ?? '');
  return /^[\x20-\x7e]*$/.test(text) ? text.toLowerCase() : '';
};

/** Bytes that do not change, with a media type. */
export class Blob {
  #bytes: Uint8Array<ArrayBuffer>;
  readonly #type: string;

  static {
    bytesOfBlob = (blob) => blob.#bytes;
  }
  constructor(parts: Iterable<unknown> = [], options: { type?: string } = {}) {
    const pieces: Uint8Array[] = [];
    for (const part of parts) {
      if (part instanceof Blob) pieces.push(part.#bytes);
      else if (part instanceof ArrayBuffer || ArrayBuffer.isView(part)) pieces.push(bytesOf(part));
      else pieces.push(encodeUtf8(domString(part)));
    }
    this.#bytes = concatBytes(...pieces);
    this.#type = normalType(options?.type);
  }
  get size(): number {
    return this.#bytes.length;
  }
  get type(): string {
    return this.#type;
  }
  slice(start?: number, end?: number, type?: string): Blob {
    const part = new Blob([], { type: type ?? '' });
    part.#bytes = this.#bytes.slice(start, end);
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
    const bytes = this.#bytes.slice();
    return new ReadableStream({
      type: 'bytes',
      start(controller) {
        if (bytes.length > 0) controller.enqueue(bytes);
        controller.close();
      },
    });
  }
  get [Symbol.toStringTag](): string {
    return 'Blob';
  }
}

export class File extends Blob {
  readonly #name: string;
  readonly #lastModified: number;
  constructor(parts: Iterable<unknown>, name: unknown, options: { type?: string; lastModified?: number } = {}) {
    super(parts, options);
    this.#name = domString(name);
    this.#lastModified = Number(options?.lastModified ?? Date.now());
  }
  get name(): string {
    return this.#name;
  }
  get lastModified(): number {
    return this.#lastModified;
  }
  override get [Symbol.toStringTag](): string {
    return 'File';
  }
}
