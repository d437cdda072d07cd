import { beforeAll, describe, expect, test } from 'vitest';
import {
  CONTENT_END,
  OHTTP_CHUNK_BYTES,
  REQUEST_BYTES_MAX,
  concatBytes,
  encodeContentChunk,
  encodeTrailers,
  fromUtf8,
  toHex,
  utf8,
} from '../proto/index.ts';
import { nodeHasher, nodeSuite } from '../proto/node.ts';
import { sealRequest, type PlainRequest, type SealOptions } from './index.ts';
import { codeOf, collect, stream, testWorker, type Answer, type TestWorker } from './worker.testkit.ts';

const VERSION = 'ab'.repeat(32);
const NOW = new Date('2026-11-23T10:20:30Z');
let worker: TestWorker;
let other: TestWorker;
beforeAll(async () => {
  [worker, other] = await Promise.all([testWorker(), testWorker()]);
});

const plain = (more: Partial<PlainRequest> = {}): PlainRequest => ({
  method: 'POST',
  authority: 'gw.example',
  path: '/run?x=1',
  headers: [],
  ...more,
});
const options = (more: Partial<SealOptions> = {}): SealOptions => ({
  workerKeys: worker.keys,
  version: VERSION,
  request: plain(),
  now: NOW,
  ...more,
});

/** Seals, lets the worker answer, alters the sealed chunks, opens. */
async function exchange(
  answer: Answer,
  alter: (chunks: Uint8Array[]) => Uint8Array[] = (it) => it,
  more: Partial<SealOptions> = {},
) {
  const sealed = await sealRequest(options(more));
  const chunks = await worker.serve(await collect(sealed.body), () => answer);
  const opened = await sealed.open(stream(...alter(chunks)));
  return { opened, read: collect(opened.body) };
}
async function outcome(answer: Answer, alter?: (chunks: Uint8Array[]) => Uint8Array[]): Promise<string> {
  try {
    const { opened, read } = await exchange(answer, alter);
    const code = await codeOf(read);
    expect(await codeOf(opened.receipt), 'receipt rejects with what the body throws').toBe(code);
    return code;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

describe('an exchange', () => {
  test.each([
    ['WebCrypto', {}],
    ['node:crypto', { suite: nodeSuite, hasher: nodeHasher }],
  ])('%s: request in, answer and receipt out', async (_, more) => {
    const request = plain({ headers: [['Content-Type', 'text/plain']], body: utf8('question') });
    const sealed = await sealRequest(options({ request, ...more }));
    const bytes = await collect(sealed.body);
    expect(Buffer.from(bytes).includes('question')).toBe(false);
    const chunks = await worker.serve(bytes, (it) => {
      expect(it).toMatchObject({ method: 'POST', scheme: 'https', authority: 'gw.example', path: '/run?x=1' });
      expect(it.headers).toEqual([
        ['content-type', 'text/plain'],
        ['content-length', '8'],
        ['cfn-function-version', VERSION],
        ['date', 'Mon, 23 Nov 2026 10:20:30 GMT'],
      ]);
      return { status: 201, headers: [['x', 'y']], body: [it.body, utf8('!')] };
    });
    const opened = await sealed.open(stream(...chunks));
    expect(opened).toMatchObject({ status: 201, headers: [['x', 'y']] });
    expect(fromUtf8(await collect(opened.body))).toBe('question!');
    const { receipt, jws } = await opened.receipt;
    expect(receipt).toMatchObject({ worker: worker.workerId, response: { status: 201 } });
    expect(jws.split('.')).toHaveLength(3);
  });

  test('a body over many chunks, given whole or streamed', async () => {
    const body = utf8('0123456789abcdef'.repeat(6000));
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < body.length; at += 5000) yield body.subarray(at, at + 5000);
    }
    for (const given of [body, pieces(), stream(body, new Uint8Array(0)), body.subarray(0, OHTTP_CHUNK_BYTES)]) {
      const sealed = await sealRequest(options({ request: plain({ body: given }) }));
      let got: Uint8Array = new Uint8Array(0);
      const chunks = await worker.serve(await collect(sealed.body), (it) => {
        got = it.body;
        return { body: [it.body] };
      });
      const opened = await sealed.open(stream(...chunks));
      expect(await collect(opened.body)).toEqual(got);
      expect(toHex(got)).toBe(toHex(body.subarray(0, got.length)));
      expect((await opened.receipt).receipt.outcome).toBe('ok');
    }
  });

  test('content is given as it comes, before the end is known', async () => {
    const sealed = await sealRequest(options());
    const chunks = await worker.serve(await collect(sealed.body), () => ({ body: [utf8('first'), utf8('second')] }));
    const rest = Promise.withResolvers<void>();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield* chunks.slice(0, 3);
      await rest.promise;
      yield* chunks.slice(3);
    }
    const opened = await sealed.open(slow());
    const body = opened.body[Symbol.asyncIterator]();
    expect((await body.next()).value).toEqual(utf8('first'));
    rest.resolve();
    expect((await body.next()).value).toEqual(utf8('second'));
    expect((await body.next()).done).toBe(true);
    await opened.receipt;
  });

  test('fields of one connection and the system’s own are dropped', async () => {
    const headers: [string, string][] = [
      ['Connection', 'close, X-Hop'],
      ['X-Hop', '1'],
      ['Transfer-Encoding', 'chunked'],
      ['Host', 'elsewhere'],
      ['Date', 'yesterday'],
      ['Content-Length', '99'],
      ['cfn-function-version', 'other'],
      ['Proxy-Authorization', 'secret'],
      ['Authorization', ' Bearer x'],
    ];
    const sealed = await sealRequest(options({ request: plain({ headers }) }));
    await worker.serve(await collect(sealed.body), (it) => {
      expect(it.headers).toEqual([
        ['authorization', 'Bearer x'],
        ['cfn-function-version', VERSION],
        ['date', NOW.toUTCString()],
      ]);
      return {};
    });
  });

  test('each request has its own encapsulated key, by which a worker knows a replay', async () => {
    const before = worker.seen.length;
    const sealed = await sealRequest(options());
    const bytes = await collect(sealed.body);
    await worker.serve(bytes, () => ({}));
    await worker.serve(bytes, () => ({}));
    await worker.serve(await collect((await sealRequest(options())).body), () => ({}));
    const [first, replayed, fresh] = worker.seen.slice(before).map(toHex);
    expect(replayed).toBe(first);
    expect(fresh).not.toBe(first);
  });
});

describe('what is refused before anything is sent', () => {
  test('a second sending and a second opening', async () => {
    const sealed = await sealRequest(options());
    const chunks = await worker.serve(await collect(sealed.body), () => ({ body: [utf8('a')] }));
    expect(await codeOf(collect(sealed.body))).toBe('CFN_INTERNAL');
    const opened = await sealed.open(stream(...chunks));
    expect(await codeOf(sealed.open(stream(...chunks)))).toBe('CFN_INTERNAL');
    await collect(opened.body);
    expect(await codeOf(collect(opened.body))).toBe('CFN_INTERNAL');
  });
  test('what HTTP cannot carry, and a body over the limit', async () => {
    expect(await codeOf(sealRequest(options({ request: plain({ headers: [['a', 'b\r\nc: d']] }) })))).toBe(
      'CFN_REQUEST_MALFORMED',
    );
    expect(await codeOf(sealRequest(options({ request: plain({ path: '/a b' }) })))).toBe('CFN_REQUEST_MALFORMED');
    const body = new Uint8Array(REQUEST_BYTES_MAX + 1);
    expect(await codeOf(sealRequest(options({ request: plain({ body }) })))).toBe('CFN_BODY_TOO_LARGE');
    const streamed = await sealRequest(options({ request: plain({ body: stream(body) }) }));
    expect(await codeOf(collect(streamed.body))).toBe('CFN_BODY_TOO_LARGE');
  });
  test('a key configuration that is none', async () => {
    expect(await codeOf(sealRequest(options({ workerKeys: { ...worker.keys, ohttp: { config: 'AAAA' } } })))).toBe(
      'CFN_EVIDENCE_MALFORMED',
    );
  });
});

describe('INV-12 an answer is refused', () => {
  const answer: Answer = { body: [utf8('one'), utf8('two'), utf8('three')] };

  test('when it is cut at any chunk boundary', async () => {
    for (let chunks = 0; chunks < 7; chunks++)
      expect(await outcome(answer, (all) => all.slice(0, chunks)), `${chunks} of 7`).toBe('CFN_RESPONSE_TRUNCATED');
    expect(await outcome(answer)).toBe('no error');
  });
  test('when a byte of any chunk is flipped', async () => {
    for (let at = 0; at < 7; at++) {
      const flip = (all: Uint8Array[]): Uint8Array[] =>
        all.map((chunk, i) => (i === at ? chunk.map((byte, j) => (j === chunk.length - 1 ? byte ^ 1 : byte)) : chunk));
      expect(await outcome(answer, flip), `chunk ${at}`).toBe('CFN_RESPONSE_MALFORMED');
    }
  });
  test('when chunks are swapped, repeated, left out or follow the end', async () => {
    const orders = [
      [0, 1, 3, 2, 4, 5, 6],
      [0, 1, 2, 2, 3, 4, 5, 6],
      [0, 1, 3, 4, 5, 6],
      [0, 1, 2, 3, 4, 5, 6, 2],
    ];
    for (const order of orders)
      expect(await outcome(answer, (all) => order.flatMap((at) => all[at] ?? []))).toBe('CFN_RESPONSE_MALFORMED');
  });
  test('when it answers another request', async () => {
    const mine = await sealRequest(options());
    await collect(mine.body);
    const theirs = await worker.serve(await collect((await sealRequest(options())).body), () => answer);
    expect(await codeOf(mine.open(stream(...theirs)))).toBe('CFN_RESPONSE_MALFORMED');
  });
  test('when the final chunk holds more than the trailer section, or no receipt', async () => {
    const unspoken = encodeContentChunk(utf8('unspoken'));
    const final: Answer['final'] = (trailers) => concatBytes(unspoken, CONTENT_END, trailers);
    expect(await outcome({ ...answer, end: encodeContentChunk(utf8('x')), final })).toBe('CFN_RESPONSE_MALFORMED');
    expect(await outcome({ ...answer, final: () => new Uint8Array(0) })).toBe('CFN_RECEIPT_INVALID');
  });
  test('when the trailer section comes before the final chunk', async () => {
    const end = concatBytes(CONTENT_END, encodeTrailers([['cfn-receipt', 'x.y.z']]));
    expect(await outcome({ ...answer, end, final: () => new Uint8Array(0) })).toBe('CFN_RESPONSE_MALFORMED');
  });
  test('when its receipt is signed by another worker', async () => {
    expect(await outcome({ ...answer, signer: other })).toBe('CFN_RECEIPT_INVALID');
  });
  test.each<[string, Answer['receipt']]>([
    ['response digest', (it) => ({ ...it, response: { ...it.response, digest: '0'.repeat(64) } })],
    ['response length', (it) => ({ ...it, response: { ...it.response, bytes: 1 } })],
    ['status', (it) => ({ ...it, response: { ...it.response, status: 500 } })],
    ['request digest', (it) => ({ ...it, request: { ...it.request, digest: '0'.repeat(64) } })],
    ['worker', (it) => ({ ...it, worker: '0'.repeat(64) })],
    ['version', (it) => ({ ...it, function: { ...it.function, version: '0'.repeat(64) } })],
  ])('when its receipt states another %s', async (_, receipt) => {
    expect(await outcome({ ...answer, ...(receipt && { receipt }) })).toBe('CFN_RECEIPT_INVALID');
  });
  test('when the transport fails: its error is passed on', async () => {
    const sealed = await sealRequest(options());
    const chunks = await worker.serve(await collect(sealed.body), () => answer);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield* chunks.slice(0, 3);
      throw Object.assign(new Error('reset'), { code: 'ECONNRESET' });
    }
    const opened = await sealed.open(broken());
    expect(await codeOf(collect(opened.body))).toBe('ECONNRESET');
    expect(await codeOf(opened.receipt)).toBe('ECONNRESET');
  });
  test('a reader that stops early gets no receipt', async () => {
    const { opened } = await exchange({ body: [] });
    await codeOf(opened.receipt);
    const sealed = await sealRequest(options());
    const chunks = await worker.serve(await collect(sealed.body), () => answer);
    const early = await sealed.open(stream(...chunks));
    for await (const _ of early.body) break;
    expect(await codeOf(early.receipt)).toBe('CFN_ABORTED');
  });
});
