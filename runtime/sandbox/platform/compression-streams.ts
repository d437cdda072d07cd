import { callService } from './host.ts';
import { TransformStream, type ReadableStream, type WritableStream } from './streams.ts';
import { bytesOf } from './utf8.ts';
import { enumOf, needArguments } from './web-idl.ts';
import type { Output } from '../services/compression.ts';

const FORMATS = ['deflate', 'deflate-raw', 'gzip', 'brotli'] as const;
/** Bytes that go to the process at once. */
const PIECE_BYTES = 256 * 1024;

type Bytes = ReadableStream<Uint8Array>;
type Writable = WritableStream<ArrayBuffer | ArrayBufferView>;

/** Compression Standard §5; the process compresses, and gives what comes out piece by piece. */
function transform(format: string, decompress: boolean): TransformStream<ArrayBuffer | ArrayBufferView, Uint8Array> {
  const ask = <T>(request: object): Promise<T> => callService<T>('compression', request);
  let id: number | undefined;
  const drop = (): void => {
    if (id !== undefined) void ask({ op: 'drop', id }).then(undefined, () => undefined);
  };
  type Controller = { enqueue(piece: Uint8Array): void };
  async function drain(request: object, controller: Controller): Promise<void> {
    id ??= await ask<number>({ op: 'open', format, decompress });
    try {
      let output = await ask<Output>({ ...request, id });
      for (;;) {
        if (output.data.byteLength > 0) controller.enqueue(new Uint8Array(output.data));
        if (!output.more) return;
        output = await ask<Output>({ op: 'read', id });
      }
    } catch (error) {
      drop();
      throw error;
    }
  }
  return new TransformStream<ArrayBuffer | ArrayBufferView, Uint8Array>({
    async transform(chunk, controller) {
      if (!(chunk instanceof ArrayBuffer) && !(ArrayBuffer.isView(chunk) && chunk.buffer instanceof ArrayBuffer))
        throw new TypeError('a chunk is not an ArrayBuffer or a view of one');
      const bytes = bytesOf(chunk);
      for (let at = 0; at < bytes.length; at += PIECE_BYTES)
        await drain({ op: 'write', data: bytes.slice(at, at + PIECE_BYTES).buffer }, controller);
    },
    async flush(controller) {
      await drain({ op: 'end' }, controller);
      drop();
    },
    cancel: drop,
  });
}

export class CompressionStream {
  readonly #transform;
  constructor(format: unknown) {
    needArguments(arguments.length, 1, 'CompressionStream');
    this.#transform = transform(enumOf(format, FORMATS, 'the format'), false);
  }
  get readable(): Bytes {
    return this.#transform.readable;
  }
  get writable(): Writable {
    return this.#transform.writable;
  }
}

export class DecompressionStream {
  readonly #transform;
  constructor(format: unknown) {
    needArguments(arguments.length, 1, 'DecompressionStream');
    this.#transform = transform(enumOf(format, FORMATS, 'the format'), true);
  }
  get readable(): Bytes {
    return this.#transform.readable;
  }
  get writable(): Writable {
    return this.#transform.writable;
  }
}
