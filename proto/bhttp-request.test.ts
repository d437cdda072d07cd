import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CfnError,
  CONTENT_END,
  concatBytes,
  createRequestSplitter,
  decodeRequest,
  encodeContentChunk,
  encodeRequest,
  encodeRequestHead,
  encodeTrailers,
  utf8,
  type RequestEvent,
} from './index.ts';

const HEAD = { method: 'POST', scheme: 'https', authority: 'gw.example', path: '/a?b=1' };
const post = { ...HEAD, headers: [['content-type', 'text/plain'] as const, ['x', 'é'] as const] };
const known = encodeRequest({ ...post, body: utf8('hello world') });
const streamed = concatBytes(
  encodeRequestHead(post),
  ...['hello', ' ', 'world'].map((text) => encodeContentChunk(utf8(text))),
  CONTENT_END,
  encodeTrailers([['t', '1']]),
);

/** Events over pieces of the given lengths, the last one up to the end. Pieces are overwritten afterwards, as their owner does. */
function splitAt(bytes: Uint8Array, cuts: readonly number[], contentBytesMax = 100): RequestEvent[] {
  const splitter = createRequestSplitter(contentBytesMax);
  const events: RequestEvent[] = [];
  const edges = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  for (let i = 1; i < edges.length; i++) {
    const piece = bytes.slice(edges[i - 1], edges[i]);
    for (const event of splitter.push(piece))
      events.push(event.type === 'content' ? { ...event, bytes: event.bytes.slice() } : event);
    piece.fill(0);
  }
  return [...events, ...splitter.end()];
}
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof CfnError ? error.code : String(error);
  }
  return 'no error';
}
const contentOf = (events: readonly RequestEvent[]): Uint8Array =>
  concatBytes(...events.flatMap((event) => (event.type === 'content' ? [event.bytes] : [])));

describe('a request in pieces', () => {
  test.each([
    ['known-length', known, 11],
    ['indeterminate-length', streamed, undefined],
  ])('%s: any cuts give the same head and content', (_, bytes, contentBytes) => {
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const events = splitAt(bytes, cuts);
        const [head] = events;
        if (head?.type !== 'head') throw new Error('no head');
        expect(head.contentBytes).toBe(contentBytes);
        expect(decodeRequest(head.bytes)).toMatchObject({
          ...decodeRequest(bytes),
          body: new Uint8Array(0),
          trailers: [],
        });
        expect(contentOf(events)).toEqual(utf8('hello world'));
        expect(events.at(-1)).toEqual({ type: 'end' });
      }),
    );
  });

  test('the head of a streamed one comes before any content', () => {
    const splitter = createRequestSplitter(100);
    expect(splitter.push(encodeRequestHead(post))).toMatchObject([{ type: 'head' }]);
    expect(splitter.push(encodeContentChunk(utf8('a')))).toMatchObject([{ type: 'content' }]);
    expect(codeOf(() => splitter.end())).toBe('CFN_REQUEST_MALFORMED');
  });

  test('it takes and refuses what the decoder of whole requests does, at every cut and every altered byte', () => {
    for (const whole of [known, streamed]) {
      for (let length = 0; length < whole.length; length++) {
        const cut = whole.slice(0, length);
        expect(
          codeOf(() => splitAt(cut, [])),
          `cut at ${length}`,
        ).toBe(codeOf(() => decodeRequest(cut)));
      }
      for (let at = 0; at < whole.length; at++) {
        for (const flip of [1, 0x20, 0x80]) {
          const altered = whole.slice();
          altered[at] = (altered[at] ?? 0) ^ flip;
          const [expected, got] = [codeOf(() => decodeRequest(altered)), codeOf(() => splitAt(altered, [at], 1e9))];
          // Both refuse a length that passes the end; only which limit it passes first may differ.
          expect(got === 'no error', `byte ${at} ^ ${flip}: ${got}`).toBe(expected === 'no error');
        }
      }
    }
  });

  test('content over the limit is refused before it comes', () => {
    const splitter = createRequestSplitter(10);
    expect(codeOf(() => splitter.push(known.slice(0, known.length - 12)))).toBe('CFN_BODY_TOO_LARGE');
    expect(codeOf(() => splitAt(streamed, [], 10))).toBe('CFN_BODY_TOO_LARGE');
    expect(codeOf(() => splitAt(streamed, [], 11))).toBe('no error');
  });

  test('padding must be zero', () => {
    expect(codeOf(() => splitAt(concatBytes(known, new Uint8Array(3)), [known.length]))).toBe('no error');
    expect(codeOf(() => splitAt(concatBytes(known, Uint8Array.of(0, 1)), [known.length]))).toBe(
      'CFN_REQUEST_MALFORMED',
    );
  });
});
