// libjpeg-turbo as WebAssembly. In a fresh isolate it is about six times as fast as a decoder in JavaScript, which the
// engine still interprets at that point. The package's own entry reads its file with `fs`, so only the file is used.
import turbojpeg from '@cwasm/jpeg-turbo/jpeg-turbo.wasm';
import type { CheckSize, Picture } from './picture.ts';
import { ImageRefused } from './problem.ts';

/** What we call of the TurboJPEG API (turbojpeg.h 2.0). Pointers are offsets into `memory`; 0 from a call is success. */
interface TurboJpeg {
  readonly memory: WebAssembly.Memory;
  malloc(bytes: number): number;
  tjInitDecompress(): number;
  tjDecompressHeader3(
    handle: number,
    jpeg: number,
    bytes: number,
    width: number,
    height: number,
    subsampling: number,
    colourSpace: number,
  ): number;
  tjDecompress2(
    handle: number,
    jpeg: number,
    bytes: number,
    pixels: number,
    width: number,
    pitch: number,
    height: number,
    format: number,
    flags: number,
  ): number;
}

/** `TJPF_BGR` of turbojpeg.h. */
const BLUE_GREEN_RED = 1;

/**
 * Decodes a baseline or progressive JPEG.
 *
 * @throws {ImageRefused} `EXAMPLE_NOT_AN_IMAGE` when it is cut short, damaged, or of a colour space other than grey and YCbCr.
 */
export function decodeJpeg(bytes: Uint8Array, checkSize: CheckSize): Picture {
  // Compiled on the first JPEG, not at load: a snapshot of the heap cannot hold compiled WebAssembly.
  // An instance is never used for a second image: an error leaves it half way (see longjmp).
  const turbo = instantiate();
  const jpeg = allocate(turbo, bytes.length);
  new Uint8Array(turbo.memory.buffer, jpeg, bytes.length).set(bytes);
  const handle = turbo.tjInitDecompress();
  const head = allocate(turbo, 16);

  orRefuse(() => turbo.tjDecompressHeader3(handle, jpeg, bytes.length, head, head + 4, head + 8, head + 12));
  const [width = 0, height = 0] = new Int32Array(turbo.memory.buffer, head, 2);
  checkSize(width, height);

  const size = width * height * 3;
  const pixels = allocate(turbo, size);
  orRefuse(() => turbo.tjDecompress2(handle, jpeg, bytes.length, pixels, width, width * 3, height, BLUE_GREEN_RED, 0));
  // The memory lives as long as this view of it, so the pixels need no copy.
  return { width, height, data: new Uint8Array(turbo.memory.buffer, pixels, size) };
}

function orRefuse(step: () => number): void {
  let cause: unknown;
  try {
    if (step() === 0) return;
  } catch (error) {
    cause = error;
  }
  throw new ImageRefused('EXAMPLE_NOT_AN_IMAGE', 'the JPEG is cut short, damaged, or of an unusual kind', { cause });
}

function allocate(turbo: TurboJpeg, bytes: number): number {
  const pointer = turbo.malloc(bytes);
  if (pointer === 0) throw new ImageRefused('EXAMPLE_TOO_LARGE', 'the image needs more memory than there is');
  return pointer;
}

function instantiate(): TurboJpeg {
  const unavailable = () => {
    throw new Error('no system calls here');
  };
  const imports = {
    // libjpeg leaves a damaged image by longjmp. Here the exception unwinds instead, to orRefuse.
    env: { setjmp: () => 0, longjmp: unavailable },
    wasi_snapshot_preview1: {
      environ_sizes_get: () => 0,
      environ_get: unavailable,
      proc_exit: unavailable,
      fd_close: unavailable,
      fd_seek: unavailable,
      fd_write: unavailable,
    },
  };
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(turbojpeg), imports);
  return exports as unknown as TurboJpeg;
}
