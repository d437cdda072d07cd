import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CONTENT_END,
  CfnError,
  HEAD_BYTES_MAX,
  concatBytes,
  createResponseDecoder,
  decodeRequest,
  encodeContentChunk,
  encodeRequest,
  encodeRequestHead,
  encodeResponseHead,
  encodeTrailers,
  fromHex,
  fromUtf8,
  scanRequestFields,
  utf8,
  type ResponseEvent,
} from './index.ts';
import { encodeVarint, readVarint, varintLength } from './varint.ts';

const hex = (text: string): Uint8Array => fromHex(text.replaceAll(/\s/g, ''));
const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof CfnError ? error.code : String(error);
  }
  return 'no error';
};

// RFC 9292, figures 8 and 9: the same request in both framings.
const RFC_INDETERMINATE = hex(`
  0203474554056874747073000a2f68656c6c6f2e747874
  0a757365722d6167656e7434 6375726c2f372e31362e33206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e33
  04686f73740f7777772e6578616d706c652e636f6d 0f6163636570742d6c616e677561676506656e2c206d69 00 00 00 00000000000000000000`);
const RFC_KNOWN = hex(`
  0003474554056874747073000a2f68656c6c6f2e747874406c
  0a757365722d6167656e7434 6375726c2f372e31362e33206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e33
  04686f73740f7777772e6578616d706c652e636f6d 0f6163636570742d6c616e677561676506656e2c206d69 00 00`);

describe('varints (RFC 9000 §A.1)', () => {
  test.each([
    ['c2197c5eff14e88c', undefined],
    ['9d7f3e7d', 494_878_333],
    ['7bbd', 15_293],
    ['25', 37],
  ])('%s', (text, value) => {
    const bytes = hex(text);
    expect(varintLength(bytes[0] ?? 0)).toBe(bytes.length);
    if (value === undefined)
      expect(code(() => readVarint(bytes, 0, 'CFN_INPUT_INVALID'))).toBe('CFN_INPUT_INVALID'); // over 2^53
    else {
      expect(readVarint(bytes, 0, 'CFN_INPUT_INVALID')).toBe(value);
      expect(encodeVarint(value)).toEqual(bytes);
    }
  });
  test('round trip up to 2^53 - 1', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => readVarint(encodeVarint(value), 0, 'CFN_INPUT_INVALID') === value),
    );
  });
});

describe('requests', () => {
  test('the examples of RFC 9292 §5.1 decode to the same request', () => {
    for (const bytes of [RFC_KNOWN, RFC_INDETERMINATE]) {
      const request = decodeRequest(bytes);
      expect(request).toMatchObject({
        method: 'GET',
        scheme: 'https',
        authority: '',
        path: '/hello.txt',
        trailers: [],
      });
      expect(request.headers).toEqual([
        ['user-agent', 'curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3'],
        ['host', 'www.example.com'],
        ['accept-language', 'en, mi'],
      ]);
      expect(request.body.length).toBe(0);
    }
    expect(encodeRequest(decodeRequest(RFC_INDETERMINATE))).toEqual(RFC_KNOWN);
  });

  const post = {
    method: 'POST',
    scheme: 'https',
    authority: 'gw.example',
    path: '/a?b=1',
    headers: [
      ['Content-Type', 'text/plain'],
      ['x', 'é'],
    ] as [string, string][],
  };

  test('round trip, names lower-cased, body is a view', () => {
    const bytes = encodeRequest({ ...post, body: utf8('hello') });
    const request = decodeRequest(bytes);
    expect(request.headers).toEqual([
      ['content-type', 'text/plain'],
      ['x', 'é'],
    ]);
    expect(fromUtf8(request.body)).toBe('hello');
    expect(request.body.buffer).toBe(bytes.buffer);
  });

  test('a streamed request with trailers', () => {
    const bytes = concatBytes(
      encodeRequestHead(post),
      encodeContentChunk(utf8('he')),
      encodeContentChunk(new Uint8Array(0)),
      encodeContentChunk(utf8('llo')),
      CONTENT_END,
      encodeTrailers([['t', '1']]),
    );
    const request = decodeRequest(bytes);
    expect(fromUtf8(request.body)).toBe('hello');
    expect(request.trailers).toEqual([['t', '1']]);
  });

  test('any cut is refused, but where empty content or trailers may be missing', () => {
    const whole = concatBytes(
      encodeRequestHead(post),
      encodeContentChunk(utf8('hello')),
      CONTENT_END,
      encodeTrailers([['t', '1']]),
    );
    const head = encodeRequestHead(post).length;
    const afterContent = whole.length - encodeTrailers([['t', '1']]).length;
    for (let length = 0; length < whole.length; length++) {
      const fits = length === head || length === afterContent;
      expect(
        code(() => decodeRequest(whole.subarray(0, length))),
        `cut at ${length}`,
      ).toBe(fits ? 'no error' : 'CFN_REQUEST_MALFORMED');
    }
  });

  test('padding must be zero', () => {
    expect(decodeRequest(concatBytes(RFC_KNOWN, new Uint8Array(3))).path).toBe('/hello.txt');
    expect(code(() => decodeRequest(concatBytes(RFC_KNOWN, Uint8Array.of(0, 1))))).toBe('CFN_REQUEST_MALFORMED');
  });

  test.each([
    ['a response', encodeResponseHead(200, [])],
    ['an unknown framing', Uint8Array.of(4, 0)],
    ['an upper-case name', lineRequest('X-A', 'b')],
    ['a pseudo-field', lineRequest(':path', 'b')],
    ['a space in a name', lineRequest('a b', 'b')],
    ['an empty name', lineRequest('', 'b')],
    ['CR in a value', lineRequest('a', 'b\rc')],
    ['LF in a value', lineRequest('a', 'b\nc')],
    ['NUL in a value', lineRequest('a', 'b\0c')],
    ['white space around a value', lineRequest('a', ' b')],
    ['a head over the limit', lineRequest('a', 'b'.repeat(HEAD_BYTES_MAX + 1))],
    ['a space in the path', encodeRaw('GET', '/a b')],
    ['an empty path', encodeRaw('GET', '')],
    ['a broken method', encodeRaw('G T', '/')],
  ])('%s is refused', (_, bytes) => {
    expect(code(() => decodeRequest(bytes))).toBe('CFN_REQUEST_MALFORMED');
    expect(code(() => scanRequestFields(bytes, ['date']))).toBe('CFN_REQUEST_MALFORMED');
  });

  test('what is refused when read is refused when written', () => {
    for (const headers of [[['a b', '']], [['a', 'b\nc']], [['a', '\u0100']], [['a', 'x'.repeat(HEAD_BYTES_MAX)]]] as [
      string,
      string,
    ][][]) {
      expect(code(() => encodeRequest({ ...post, headers, body: new Uint8Array(0) }))).toBe('CFN_REQUEST_MALFORMED');
    }
    expect(code(() => encodeResponseHead(200, [['a', 'b\r\nc: d']]))).toBe('CFN_RESPONSE_MALFORMED');
    expect(code(() => encodeResponseHead(100, []))).toBe('CFN_RESPONSE_MALFORMED');
  });

  test('a declared body over the limit is refused before it is there', () => {
    const head = encodeRequestHead(post);
    expect(code(() => decodeRequest(concatBytes(head, encodeVarint(2 ** 31))))).toBe('CFN_BODY_TOO_LARGE');
  });

  test('random bytes never throw anything but a CfnError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, known) => {
        const outcome = code(() => decodeRequest(concatBytes(Uint8Array.of(known ? 0 : 2), bytes)));
        return outcome === 'no error' || outcome.startsWith('CFN_');
      }),
    );
  });

  test('scanning finds fields as views and refuses one that comes twice', () => {
    const bytes = encodeRequest({
      ...post,
      headers: [...post.headers, ['date', 'D'], ['Cfn-Function-Version', 'V']],
      body: utf8('b'),
    });
    const found = scanRequestFields(bytes, ['date', 'cfn-function-version', 'absent']);
    expect([...found.keys()].toSorted()).toEqual(['cfn-function-version', 'date']);
    expect(found.get('date')).toEqual(utf8('D'));
    expect(found.get('date')?.buffer).toBe(bytes.buffer);
    const twice = encodeRequest({
      ...post,
      headers: [
        ['date', '1'],
        ['date', '2'],
      ],
      body: utf8(''),
    });
    expect(code(() => scanRequestFields(twice, ['date']))).toBe('CFN_REQUEST_MALFORMED');
  });
});

describe('responses', () => {
  const streamed = concatBytes(
    encodeResponseHead(201, [['a', '1']]),
    encodeContentChunk(utf8('hello ')),
    encodeContentChunk(utf8('world')),
    CONTENT_END,
    encodeTrailers([['cfn-receipt', 'r']]),
  );

  function summarize(events: ResponseEvent[]): {
    informational: number[];
    status?: number;
    body: string;
    trailers?: unknown;
  } {
    const content = events.flatMap((event) => (event.type === 'content' ? [event.bytes] : []));
    const head = events.find((event) => event.type === 'head');
    const trailers = events.find((event) => event.type === 'trailers');
    return {
      informational: events.flatMap((event) => (event.type === 'informational' ? [event.status] : [])),
      ...(head && { status: head.status }),
      body: fromUtf8(concatBytes(...content)),
      ...(trailers && { trailers: trailers.trailers }),
    };
  }
  function decodeIn(bytes: Uint8Array, size: number): ReturnType<typeof summarize> {
    const decoder = createResponseDecoder();
    const events: ResponseEvent[] = [];
    for (let at = 0; at < bytes.length; at += size) events.push(...decoder.push(bytes.subarray(at, at + size)));
    return summarize([...events, ...decoder.end()]);
  }

  test.each([1, 2, 7, 1000])('in pieces of %i bytes', (size) => {
    expect(decodeIn(streamed, size)).toEqual({
      informational: [],
      status: 201,
      body: 'hello world',
      trailers: [['cfn-receipt', 'r']],
    });
  });

  test('informational responses before the final one', () => {
    const bytes = hex(`
      0340660772756e6e696e670a22736c65657020313522004067046c696e6b233c2f7374796c652e6373733e3b2072656c3d7072656c6f61643b2061733d7374796c65
      046c696e6b243c2f7363726970742e6a733e3b2072656c3d7072656c6f61643b2061733d736372697074 00
      40c804646174651d4d6f6e2c203237204a756c20323030392031323a32383a353320474d54067365727665720641706163686500
      0c 48656c6c6f20576f726c6421 00 00`);
    expect(decodeIn(bytes, 5)).toEqual({ informational: [102, 103], status: 200, body: 'Hello World!', trailers: [] });
  });

  test('the known-length example of RFC 9292 §5.2, with a trailer', () => {
    const bytes = hex(`
      0140c8001d 5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a 0d 07747261696c6572 0474657874`);
    for (const size of [1, 100])
      expect(decodeIn(bytes, size)).toEqual({
        informational: [],
        status: 200,
        body: 'This content contains CRLF.\r\n',
        trailers: [['trailer', 'text']],
      });
  });

  test('known-length', () => {
    const bytes = concatBytes(
      Uint8Array.of(1),
      encodeVarint(200),
      Uint8Array.of(4, 1, 97, 1, 98),
      Uint8Array.of(2, 104, 105),
      Uint8Array.of(0, 0, 0),
    );
    for (const size of [1, 100])
      expect(decodeIn(bytes, size)).toEqual({ informational: [], status: 200, body: 'hi', trailers: [] });
  });

  test('any cut is truncation, but where empty trailers may be missing', () => {
    const afterHead = encodeResponseHead(201, [['a', '1']]).length;
    const afterContent = streamed.length - encodeTrailers([['cfn-receipt', 'r']]).length;
    for (let length = 0; length < streamed.length; length++) {
      const expected = length === afterHead || length === afterContent ? 'no error' : 'CFN_RESPONSE_TRUNCATED';
      expect(
        code(() => decodeIn(streamed.subarray(0, length), 3)),
        `cut at ${length}`,
      ).toBe(expected);
    }
  });

  test.each([
    ['a request', encodeRequestHead({ method: 'GET', scheme: 'https', authority: '', path: '/', headers: [] })],
    ['a status of 99', Uint8Array.of(3, 0x40, 99, 0)],
    ['a status of 600', concatBytes(Uint8Array.of(3), encodeVarint(600), Uint8Array.of(0))],
    ['an upper-case name', concatBytes(Uint8Array.of(3), encodeVarint(200), Uint8Array.of(1, 65, 0, 0))],
    ['a line break in a value', concatBytes(Uint8Array.of(3), encodeVarint(200), Uint8Array.of(1, 97, 2, 98, 10, 0))],
    ['a field past its section', concatBytes(Uint8Array.of(1), encodeVarint(200), Uint8Array.of(3, 1, 97, 9))],
    ['padding that is not zero', concatBytes(streamed, Uint8Array.of(1))],
    ['a section over the limit', concatBytes(Uint8Array.of(1), encodeVarint(200), encodeVarint(HEAD_BYTES_MAX + 1))],
    [
      'a body over the limit',
      concatBytes(Uint8Array.of(1), encodeVarint(200), Uint8Array.of(0), encodeVarint(2 ** 40)),
    ],
    [
      'endless informational responses',
      concatBytes(Uint8Array.of(3), ...Array.from({ length: 20 }, () => Uint8Array.of(0x40, 100, 0))),
    ],
  ])('%s is refused', (_, bytes) => {
    expect(code(() => decodeIn(bytes, 4))).toBe('CFN_RESPONSE_MALFORMED');
  });

  test('bytes after the end are refused', () => {
    const decoder = createResponseDecoder();
    decoder.push(streamed);
    decoder.end();
    expect(code(() => decoder.push(Uint8Array.of(0)))).toBe('CFN_RESPONSE_MALFORMED');
  });
});

/** A request with one field line as given, unchecked. */
function lineRequest(name: string, value: string): Uint8Array {
  const part = (text: string): Uint8Array => concatBytes(encodeVarint(text.length), utf8(text));
  const line = concatBytes(part(name), part(value));
  return concatBytes(
    Uint8Array.of(0),
    part('GET'),
    part('https'),
    part('h'),
    part('/'),
    encodeVarint(line.length),
    line,
    Uint8Array.of(0, 0),
  );
}
function encodeRaw(method: string, path: string): Uint8Array {
  const part = (text: string): Uint8Array => concatBytes(encodeVarint(text.length), utf8(text));
  return concatBytes(Uint8Array.of(0), part(method), part('https'), part('h'), part(path), Uint8Array.of(0, 0, 0));
}
