import { ImageRefused } from './problem.ts';
import { decodeJpeg } from './jpeg.ts';
import { decodePng } from './png.ts';

/** Pixels in rows from the top, three bytes each in the order blue, green, red: what both models were trained on. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Largest body, in bytes: a photograph of a phone fits. */
export const IMAGE_BYTES_MAX = 12 * 1024 * 1024;
/** Largest image, in pixels. 24 megapixels are 72 MB decoded, well inside `limits.memory_mb`. */
export const IMAGE_PIXELS_MAX = 24_000_000;
/** Longest side, in pixels. Keeps products of coordinates far inside what integer arithmetic holds. */
export const IMAGE_SIDE_MAX = 16_384;

/**
 * Decodes a JPEG or PNG, told apart by their first bytes, whatever the content type says.
 *
 * @throws {ImageRefused} `EXAMPLE_TOO_LARGE` beyond the limits above, `EXAMPLE_NOT_AN_IMAGE` when it does not decode.
 */
export function decodePicture(bytes: Uint8Array): Picture {
  if (bytes.length > IMAGE_BYTES_MAX) {
    throw new ImageRefused('EXAMPLE_TOO_LARGE', `expected at most ${IMAGE_BYTES_MAX} bytes, got ${bytes.length}`);
  }
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return decodeJpeg(bytes, checkSize);
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return decodePng(bytes, checkSize);
  throw new ImageRefused('EXAMPLE_NOT_AN_IMAGE', 'expected the first bytes of a JPEG or a PNG, got something else');
}

/** Run on the size that the file claims, before memory for its pixels is taken: a few bytes can claim gigabytes. */
export type CheckSize = (width: number, height: number) => void;

function checkSize(width: number, height: number): void {
  if (width < 1 || height < 1)
    throw new ImageRefused('EXAMPLE_NOT_AN_IMAGE', `the image is ${width} × ${height} pixels`);
  if (width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX || width * height > IMAGE_PIXELS_MAX) {
    throw new ImageRefused(
      'EXAMPLE_TOO_LARGE',
      `expected at most ${IMAGE_PIXELS_MAX} pixels and ${IMAGE_SIDE_MAX} on a side, got ${width} × ${height}`,
    );
  }
}

function startsWith(bytes: Uint8Array, prefix: readonly number[]): boolean {
  return prefix.every((byte, index) => bytes[index] === byte);
}
