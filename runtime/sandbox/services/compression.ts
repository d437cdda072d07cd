import {
  createBrotliCompress,
  createBrotliDecompress,
  createDeflate,
  createDeflateRaw,
  createGunzip,
  createGzip,
  createInflate,
  createInflateRaw,
} from 'node:zlib';
import type { Transform } from 'node:stream';
import * as z from 'zod/mini'; // all of Zod would be most of the sandbox's program
import { Refusal, type Charge, type Service } from './service.ts';

const FORMATS = ['gzip', 'deflate', 'deflate-raw', 'brotli'] as const;
const id = z.int().check(z.nonnegative());
const request = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('open'), format: z.enum(FORMATS), decompress: z.boolean() }),
  /** Takes the next piece; the answer is the first of what comes out. */
  z.strictObject({ op: z.literal('write'), id, data: z.instanceof(ArrayBuffer) }),
  /** No piece follows. */
  z.strictObject({ op: z.literal('end'), id }),
  /** The next of what comes out, as long as `more` is said. */
  z.strictObject({ op: z.literal('read'), id }),
  z.strictObject({ op: z.literal('drop'), id }),
]);
/** What a `write`, `end` or `read` answers. */
export interface Output {
  readonly data: ArrayBuffer;
  readonly more: boolean;
}

/** Streams open at once in an invocation; zlib takes up to 400 KB for each. */
const STREAMS_MAX = 32;
/** Largest piece out, in bytes. A bomb comes out piece by piece, as fast as the function takes the pieces. */
const PIECE_BYTES = 64 * 1024;
/** Largest piece in, in bytes; the platform cuts. */
const INPUT_BYTES_MAX = 1024 * 1024;
/** CPU time, in ms a byte: slow machines, worst input. */
const [COMPRESS_MS, DECOMPRESS_MS] = [1e-4, 1e-5];

interface Open {
  readonly zlib: Transform;
  readonly msPerByteIn: number;
  failed: boolean;
  /** What zlib reads from. */
  input: Buffer;
  /** The piece that was written last is used up, or the end was reached. */
  consumed: boolean;
  /** Something happened to the stream. */
  wake: () => void;
}

export function compression(charge: Charge): Service {
  const open = new Map<number, Open>();
  let lastId = 0;

  function openStream(format: (typeof FORMATS)[number], decompress: boolean): number {
    if (open.size >= STREAMS_MAX) throw new Refusal('QuotaExceededError', `more than ${STREAMS_MAX} streams at once`);
    charge(0.2);
    const zlib = makeStream(format, decompress);
    const stream: Open = {
      zlib,
      msPerByteIn: decompress ? 0 : COMPRESS_MS,
      failed: false,
      input: Buffer.alloc(0),
      consumed: true,
      wake: () => undefined,
    };
    zlib.on('error', () => {
      stream.failed = true;
      stream.wake();
    });
    zlib.on('readable', () => stream.wake());
    zlib.on('end', () => {
      stream.consumed = true;
      stream.wake();
    });
    open.set(++lastId, stream);
    return lastId;
  }

  function find(streamId: number): Open {
    const stream = open.get(streamId);
    if (stream === undefined) throw new Refusal('OperationError', 'there is no such stream');
    return stream;
  }

  /** The next piece that comes out. */
  async function read(stream: Open): Promise<Output> {
    for (;;) {
      const piece = stream.zlib.read() as Buffer | null;
      if (piece !== null) {
        charge(piece.length * DECOMPRESS_MS);
        const data = Uint8Array.from(piece).buffer;
        piece.fill(0); // a part of zlib's own output buffer, written once
        return { data, more: true };
      }
      if (stream.failed) throw new Refusal('TypeError', 'the compressed data is not valid');
      if (stream.consumed) return { data: new ArrayBuffer(0), more: false };
      await new Promise<void>((resolve) => (stream.wake = resolve));
    }
  }

  return {
    async answer(untrusted) {
      const message = request.parse(untrusted);
      switch (message.op) {
        case 'open':
          return openStream(message.format, message.decompress);
        case 'write': {
          const stream = find(message.id);
          const data = new Uint8Array(message.data);
          if (data.length > INPUT_BYTES_MAX) throw new Refusal('QuotaExceededError', 'the piece is too large');
          if (!stream.consumed) throw new Refusal('OperationError', 'there is more to read');
          charge(data.length * stream.msPerByteIn);
          stream.consumed = false;
          // A copy, for the desk wipes the request when this is answered, and zlib may not have read it all.
          stream.input = Buffer.from(data);
          stream.zlib.write(stream.input, () => {
            stream.input.fill(0);
            stream.consumed = true;
            stream.wake();
          });
          return read(stream);
        }
        case 'end': {
          const stream = find(message.id);
          if (!stream.consumed) throw new Refusal('OperationError', 'there is more to read');
          stream.consumed = false;
          stream.zlib.end();
          return read(stream);
        }
        case 'read':
          return read(find(message.id));
        case 'drop':
          drop(open.get(message.id));
          open.delete(message.id);
          return undefined;
        default:
          return message satisfies never;
      }
    },
    close() {
      for (const stream of open.values()) drop(stream);
      open.clear();
    },
  };
}

/** Overwrites what is still there of input and output; what zlib itself holds, the allocator overwrites. */
function drop(stream: Open | undefined): void {
  if (stream === undefined) return;
  const left = stream.zlib.read() as Buffer | null;
  left?.fill(0);
  stream.input.fill(0);
  stream.zlib.destroy();
  stream.failed = true;
  stream.wake();
}

function makeStream(format: (typeof FORMATS)[number], decompress: boolean): Transform {
  // `rejectGarbageAfterEnd` as the Compression Standard wants it; @types/node does not know it yet.
  // Nothing is made before the piece that is there was taken.
  const options = {
    chunkSize: PIECE_BYTES,
    readableHighWaterMark: 1,
    ...(decompress ? { rejectGarbageAfterEnd: true } : {}),
  };
  switch (format) {
    case 'gzip':
      return decompress ? createGunzip(options) : createGzip(options);
    case 'deflate':
      return decompress ? createInflate(options) : createDeflate(options);
    case 'deflate-raw':
      return decompress ? createInflateRaw(options) : createDeflateRaw(options);
    case 'brotli':
      return decompress ? createBrotliDecompress(options) : createBrotliCompress(options);
    default:
      return format satisfies never;
  }
}
