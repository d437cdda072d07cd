import { beforeAll, describe, expect, test } from 'vitest';
import type { Model } from '../sdk/index.ts';
import { evaluateInBareIsolate, fixture, loadExample, loadModel, post, type Example } from './example-harness.ts';

interface Answer {
  readonly segments: readonly { readonly startSeconds: number; readonly endSeconds: number }[];
  readonly seconds: number;
  readonly speechRatio: number;
}

let vad: Example;
let env: { VAD: Model };

beforeAll(async () => {
  vad = await loadExample('vad');
  env = { VAD: await loadModel('@ricky0123/vad-web/dist/silero_vad_v5.onnx') };
});

async function listen(body: Uint8Array<ArrayBuffer>): Promise<Answer> {
  const response = await vad.fetch(post(body), env);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

async function refusal(request: Request) {
  const response = await vad.fetch(request, env);
  const { status, code } = (await response.json()) as { status: number; code: string };
  expect(response.status).toBe(status);
  return { status, code };
}

/** A WAV file of these samples; `override` changes fields of the format. */
function wav(samples: Int16Array, override: { rate?: number; channels?: number; tag?: number; bits?: number } = {}) {
  const { rate = 8000, channels = 1, tag = 1, bits = 16 } = override;
  const bytes = new Uint8Array(44 + samples.byteLength);
  const view = new DataView(bytes.buffer);
  const text = (at: number, value: string) => bytes.set(new TextEncoder().encode(value), at);
  text(0, 'RIFF');
  view.setUint32(4, bytes.length - 8, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, tag, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, (rate * channels * bits) / 8, true);
  view.setUint16(32, (channels * bits) / 8, true);
  view.setUint16(34, bits, true);
  text(36, 'data');
  view.setUint32(40, samples.byteLength, true);
  bytes.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), 44);
  return bytes;
}

/** Seconds of the recorded talk, 8 kHz, from `start`. */
async function talk(start: number, seconds: number): Promise<Int16Array> {
  const file = await fixture('speech-8k-60s.wav');
  return new Int16Array(file.buffer, 44).slice(start * 8000, (start + seconds) * 8000);
}

test('finds the speech of a recorded talk', async () => {
  const { segments, seconds, speechRatio } = await listen(await fixture('speech-8k-60s.wav'));
  expect(seconds).toBe(60);
  // The speaker begins after some two seconds, and pauses for breath from then on.
  expect(segments.length).toBeGreaterThan(10);
  expect(segments.some(({ startSeconds }) => startSeconds > 2 && startSeconds < 3)).toBe(true);
  expect(speechRatio).toBeGreaterThan(0.65);
  expect(speechRatio).toBeLessThan(0.9);
  let end = 0;
  for (const { startSeconds, endSeconds } of segments) {
    expect(startSeconds).toBeGreaterThanOrEqual(end);
    expect(endSeconds).toBeGreaterThan(startSeconds);
    end = endSeconds;
  }
  expect(end).toBeLessThanOrEqual(60);
});

test('finds the same in 16 kHz stereo', async () => {
  const mono = await talk(2, 10);
  const stereo = new Int16Array(mono.length * 4);
  // Each sample twice for the rate, twice for the channels.
  mono.forEach((sample, index) => stereo.fill(sample, index * 4, index * 4 + 4));
  const expected = await listen(wav(mono));
  const got = await listen(wav(stereo, { rate: 16000, channels: 2 }));
  expect(got.seconds).toBe(10);
  expect(Math.abs(got.speechRatio - expected.speechRatio)).toBeLessThan(0.15);
});

test('finds nothing in silence, nor in an empty recording', async () => {
  expect(await listen(wav(new Int16Array(16000)))).toEqual({ segments: [], seconds: 2, speechRatio: 0 });
  expect(await listen(wav(new Int16Array()))).toEqual({ segments: [], seconds: 0, speechRatio: 0 });
});

test('a call keeps nothing for the next', async () => {
  const recording = wav(await talk(2, 6));
  const first = await listen(recording);
  await listen(wav(new Int16Array(8000).fill(20_000)));
  expect(await listen(recording)).toEqual(first);
});

describe('refuses', () => {
  const notAWav = { status: 415, code: 'EXAMPLE_NOT_A_WAV' };
  const good = () => wav(new Int16Array(800));

  function changed(change: (view: DataView) => void) {
    const bytes = good();
    change(new DataView(bytes.buffer));
    return bytes;
  }

  test('another method', async () => {
    expect(await refusal(new Request('https://example.test/'))).toEqual({ status: 405, code: 'EXAMPLE_METHOD' });
  });

  test('a body over the limit', async () => {
    const body = new Uint8Array(12 * 1024 * 1024 + 1);
    expect(await refusal(post(body))).toEqual({ status: 413, code: 'EXAMPLE_TOO_LARGE' });
  });

  test.each([0, 4, 12, 19, 30, 43, 60])('a file cut after %i bytes', async (bytes) => {
    expect(await refusal(post(good().slice(0, bytes)))).toEqual(notAWav);
  });

  test.each([
    ['another rate', () => wav(new Int16Array(800), { rate: 44100 })],
    ['three channels', () => wav(new Int16Array(900), { channels: 3 })],
    ['floating point', () => wav(new Int16Array(800), { tag: 3 })],
    ['eight bits', () => wav(new Int16Array(800), { bits: 8 })],
    ['a wrong total size', () => changed((view) => view.setUint32(4, 4, true))],
    ['a wrong byte rate', () => changed((view) => view.setUint32(28, 8000, true))],
    ['a wrong block size', () => changed((view) => view.setUint16(32, 4, true))],
    ['a chunk past the end', () => changed((view) => view.setUint32(40, 1_000_000, true))],
    ['half a sample', () => changed((view) => view.setUint32(40, 1599, true))],
    ['a data chunk without format', () => changed((view) => view.setUint32(12, 0x6a756e6b))],
    ['text', () => new TextEncoder().encode('a story about a whistle, and nothing that one could hear')],
  ])('%s', async (_name, make) => {
    expect(await refusal(post(make()))).toEqual(notAWav);
  });
});

test('the bundle uses nothing of Node and loads in a bare isolate', async () => {
  expect(vad.source).not.toMatch(/\b(node:|Buffer\b|process\b|require\b)/);
  expect(await evaluateInBareIsolate(vad.source)).toBe('function');
});
