import { convertIndexedToRgb, decode, type DecodedPng } from 'fast-png';
import type { CheckSize, Picture } from './picture.ts';
import { ImageRefused } from './problem.ts';

/**
 * Decodes a PNG of any colour type and depth; what is transparent shows white paper.
 *
 * @throws {ImageRefused} `EXAMPLE_NOT_AN_IMAGE` when it is cut short or damaged.
 */
export function decodePng(bytes: Uint8Array, checkSize: CheckSize): Picture {
  // Signature (8), then the IHDR chunk: length, type, width, height (PNG §11.2.1).
  if (bytes.length < 33) throw new ImageRefused('EXAMPLE_NOT_AN_IMAGE', 'the PNG ends inside its header');
  const head = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkSize(head.getUint32(16), head.getUint32(20));
  let png: DecodedPng;
  try {
    png = decode(bytes, { checkCrc: true });
  } catch (cause) {
    throw new ImageRefused('EXAMPLE_NOT_AN_IMAGE', 'the PNG is cut short or damaged', { cause });
  }
  return toBlueGreenRed(png);
}

/** Grey, palette, colour, each with or without alpha and with 1 to 16 bits, as three bytes a pixel. */
function toBlueGreenRed(png: DecodedPng): Picture {
  const { width, height } = png;
  const channels = png.palette ? (png.palette[0]?.length ?? 3) : png.channels;
  const samples = png.palette ? convertIndexedToRgb(png) : png.depth < 8 ? unpackGrey(png) : png.data;
  const shift = png.depth === 16 ? 8 : 0;
  const colour = channels >= 3;
  const alphaAt = channels === 2 || channels === 4 ? channels - 1 : -1;
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += channels, to += 3) {
    const red = (samples[from] ?? 0) >> shift;
    const green = colour ? (samples[from + 1] ?? 0) >> shift : red;
    const blue = colour ? (samples[from + 2] ?? 0) >> shift : red;
    if (alphaAt < 0) {
      data[to] = blue;
      data[to + 1] = green;
      data[to + 2] = red;
    } else {
      const alpha = (samples[from + alphaAt] ?? 0) >> shift;
      const paper = 255 * (255 - alpha);
      data[to] = (blue * alpha + paper) / 255;
      data[to + 1] = (green * alpha + paper) / 255;
      data[to + 2] = (red * alpha + paper) / 255;
    }
  }
  return { width, height, data };
}

/** Grey of 1, 2 or 4 bits is packed, each row from a new byte. */
function unpackGrey({ width, height, depth, data }: DecodedPng): Uint8Array {
  const rowBytes = Math.ceil((width * depth) / 8);
  const mask = (1 << depth) - 1;
  const out = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      const byte = data[y * rowBytes + (bit >> 3)] ?? 0;
      out[y * width + x] = (((byte >> (8 - depth - (bit & 7))) & mask) * 255) / mask;
    }
  }
  return out;
}
