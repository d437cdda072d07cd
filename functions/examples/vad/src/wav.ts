import { RecordingRefused } from './problem.ts';

/** Sound on one channel. */
export interface Recording {
  /** Samples a second. */
  readonly rate: 8000 | 16000;
  /** -1 to 1. */
  readonly samples: Float32Array;
}

interface Format {
  readonly channels: 1 | 2;
  readonly rate: 8000 | 16000;
}

const PCM = 1;
const SAMPLE_BYTES = 2;

/**
 * Parses a WAV file (RIFF, Multimedia Programming Interface 1.0, chapter 3): one `fmt ` chunk of 16-bit PCM, mono or stereo, at
 * 8 or 16 kHz, then one `data` chunk; other chunks are passed over. Sizes must agree with one another and with the file.
 *
 * @returns the samples; two channels become their mean
 * @throws {RecordingRefused} `EXAMPLE_NOT_A_WAV`
 */
export function parseWav(bytes: Uint8Array): Recording {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || tag(bytes, 0) !== 'RIFF' || tag(bytes, 8) !== 'WAVE')
    refuse('a RIFF WAVE header', 'something else');
  expect(view.getUint32(4, true), bytes.length - 8, 'bytes after the RIFF header');

  let format: Format | undefined;
  let data: DataView | undefined;
  for (let at = 12; at < bytes.length;) {
    if (bytes.length - at < 8) refuse('a chunk header of 8 bytes', `${bytes.length - at}`);
    const name = tag(bytes, at);
    const size = view.getUint32(at + 4, true);
    const left = bytes.length - at - 8;
    if (size > left) refuse(`${size} bytes in chunk ${JSON.stringify(name)}`, `${left}`);
    const body = new DataView(bytes.buffer, bytes.byteOffset + at + 8, size);
    if (name === 'fmt ') {
      if (format) refuse('one format chunk', 'a second');
      format = parseFormat(body);
    } else if (name === 'data') {
      if (!format) refuse('the format before the data', 'the data first');
      if (data) refuse('one data chunk', 'a second');
      data = body;
    }
    at += 8 + size + (size & 1); // chunks begin at even places
    if (at > bytes.length) refuse('a byte of padding after an odd chunk', 'none');
  }
  if (!format || !data) refuse('a format and a data chunk', 'neither or one');
  return { rate: format.rate, samples: toMono(data, format.channels) };
}

function parseFormat(chunk: DataView): Format {
  if (chunk.byteLength < 16) refuse('a format of at least 16 bytes', `${chunk.byteLength}`);
  expect(chunk.getUint16(0, true), PCM, 'as format tag (PCM)');
  const channels = chunk.getUint16(2, true);
  const rate = chunk.getUint32(4, true);
  if (channels !== 1 && channels !== 2) refuse('1 or 2 channels', `${channels}`);
  if (rate !== 8000 && rate !== 16000) refuse('8000 or 16000 samples a second', `${rate}`);
  expect(chunk.getUint16(14, true), 8 * SAMPLE_BYTES, 'bits a sample');
  expect(chunk.getUint16(12, true), channels * SAMPLE_BYTES, 'bytes for all channels of a sample');
  expect(chunk.getUint32(8, true), rate * channels * SAMPLE_BYTES, 'bytes a second');
  return { channels, rate };
}

function toMono(data: DataView, channels: 1 | 2): Float32Array {
  const frameBytes = channels * SAMPLE_BYTES;
  if (data.byteLength % frameBytes !== 0) refuse(`whole samples of ${frameBytes} bytes`, `${data.byteLength} bytes`);
  const samples = new Float32Array(data.byteLength / frameBytes);
  for (let index = 0; index < samples.length; index++) {
    const at = index * frameBytes;
    const left = data.getInt16(at, true);
    const sum = channels === 2 ? left + data.getInt16(at + SAMPLE_BYTES, true) : left;
    samples[index] = sum / (channels * 32768);
  }
  return samples;
}

function tag(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function expect(got: number, expected: number, what: string): void {
  if (got !== expected) refuse(`${expected} ${what}`, `${got}`);
}

function refuse(expected: string, got: string): never {
  throw new RecordingRefused('EXAMPLE_NOT_A_WAV', `expected ${expected}, got ${got}`);
}
