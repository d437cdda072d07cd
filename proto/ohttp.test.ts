import { describe, expect, test } from 'vitest';
import {
  CfnError,
  concatBytes,
  createRequestOpener,
  createRequestSealer,
  fromHex,
  generateOhttpKeys,
  importOhttpKeys,
  OHTTP_CHUNK_BYTES,
  OHTTP_CHUNK_BYTES_MAX,
  parseKeyConfig,
  toHex,
  utf8,
  type OhttpKeys,
} from './index.ts';
import { nodeSuite } from './node.ts';
import { openResponse, sealResponse } from './ohttp-response.ts';
import { webCryptoSuite, type OhttpSuite } from './ohttp-suite.ts';
import { encodeVarint } from './varint.ts';

const suites: [string, OhttpSuite][] = [
  ['WebCrypto', webCryptoSuite],
  ['node:crypto', nodeSuite],
];
const hex = (text: string): Uint8Array<ArrayBuffer> => fromHex(text.replaceAll(/\s/g, ''));
async function code(run: Promise<unknown>): Promise<string> {
  try {
    await run;
  } catch (error) {
    return error instanceof CfnError ? error.code : String(error);
  }
  return 'no error';
}
async function openAll(keys: OhttpKeys, ...pieces: Uint8Array[]): Promise<Uint8Array> {
  const opener = createRequestOpener(keys);
  const out: Uint8Array[] = [];
  for (const piece of pieces) out.push(...(await opener.push(piece)));
  out.push(...(await opener.end()));
  return concatBytes(...out);
}
const random = (length: number): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(out.subarray(at, at + 65_536));
  return out;
};

// draft-ietf-ohai-chunked-ohttp-06, appendix A.
const DRAFT = {
  privateKey: hex('1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698'),
  config: hex('010020668eb21aace159803974a4c67f08b4152d29bed10735fd08f98ccdd6fe09570800080001000100010003'),
  enc: hex('8811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032'),
  request: hex('00034745540568747470730b6578616d706c652e636f6d012f'),
  sealedRequest: hex(`01002000010001 8811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032
    1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f
    1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311
    001c6c1395d0ef7c1022297966307b8a7f`),
  secret: hex('1d4484834ae36102a6ac42a5523454d9'),
  nonce: hex('bcce7f4cb921309ba5d62edf1769ef09'),
  sealedResponse: hex(`bcce7f4cb921309ba5d62edf1769ef09
    1179bf1cc87fa0e2c02de4546945aa3d1e48 12b348b5bd4c594c16b6170b07b475845d1f32 00ed9d8a796617a5b27265f4d73247f639`),
};

describe.each(suites)('%s against the example of the draft', (_, suite) => {
  test('opens its request, in one piece and byte by byte', async () => {
    const keys = await importOhttpKeys(DRAFT.config, DRAFT.privateKey, suite);
    expect(await openAll(keys, DRAFT.sealedRequest)).toEqual(DRAFT.request);
    expect(await openAll(keys, ...Array.from(DRAFT.sealedRequest, (byte) => Uint8Array.of(byte)))).toEqual(
      DRAFT.request,
    );
    const opener = createRequestOpener(keys);
    await opener.push(DRAFT.sealedRequest);
    expect(toHex(opener.encapsulatedKey())).toBe(toHex(DRAFT.enc));
  });
  test('seals its response', async () => {
    const sealer = await sealResponse(suite, DRAFT.secret, DRAFT.enc, DRAFT.nonce);
    const chunks = [await sealer.seal(hex('01')), await sealer.seal(hex('40c8')), await sealer.sealFinal(hex(''))];
    expect(toHex(concatBytes(sealer.header, ...chunks))).toBe(toHex(DRAFT.sealedResponse));
  });
  test('opens its response', async () => {
    const opener = openResponse(suite, DRAFT.secret, DRAFT.enc);
    const opened = [...(await opener.push(DRAFT.sealedResponse)), ...(await opener.end())];
    expect(opened.map(toHex)).toEqual(['01', '40c8']);
  });
});

describe.each(suites.flatMap(([a, client]) => suites.map(([b, server]) => [a, b, client, server] as const)))(
  '%s client, %s worker',
  (_a, _b, client, server) => {
    test('an exchange with bodies of many chunks', async () => {
      const keys = await generateOhttpKeys(7, server);
      const sealer = await createRequestSealer(keys.config, client);
      const body = random(3 * OHTTP_CHUNK_BYTES + 5);
      const opener = createRequestOpener(keys);
      const request = [
        ...(await opener.push(
          concatBytes(sealer.header, await sealer.seal(body), await sealer.sealFinal(utf8('end'))),
        )),
        ...(await opener.end()),
      ];
      expect(concatBytes(...request)).toEqual(concatBytes(body, utf8('end')));
      expect(request.map((piece) => piece.length)).toEqual([
        OHTTP_CHUNK_BYTES,
        OHTTP_CHUNK_BYTES,
        OHTTP_CHUNK_BYTES,
        5,
        3,
      ]);
      expect(toHex(opener.encapsulatedKey())).toBe(toHex(sealer.header.subarray(7)));

      const responseSealer = await opener.createResponseSealer();
      const before = concatBytes(responseSealer.header, await responseSealer.seal(body));
      const sealed: Uint8Array[] = [];
      const responseOpener = await sealer.createResponseOpener({
        onSealed: (bytes) => sealed.push(new Uint8Array(bytes)),
      });
      const response = await responseOpener.push(concatBytes(before, await responseSealer.sealFinal(utf8('receipt'))));
      expect(concatBytes(...response)).toEqual(body);
      expect((await responseOpener.end()).map(toHex)).toEqual([toHex(utf8('receipt'))]);
      expect(concatBytes(...sealed), 'onSealed stops before the final chunk').toEqual(before);
    });
  },
);

describe('requests that are refused', () => {
  async function sealedChunks(): Promise<{ keys: OhttpKeys; header: Uint8Array; chunks: Uint8Array[] }> {
    const keys = await generateOhttpKeys(1, nodeSuite);
    const sealer = await createRequestSealer(keys.config, nodeSuite);
    const chunks = [
      await sealer.seal(utf8('one')),
      await sealer.seal(utf8('two')),
      await sealer.sealFinal(utf8('three')),
    ];
    return { keys, header: sealer.header, chunks };
  }
  test('cut at every byte', async () => {
    const { keys, header, chunks } = await sealedChunks();
    const whole = concatBytes(header, ...chunks);
    for (let length = 0; length < whole.length; length++) {
      expect(await code(openAll(keys, whole.subarray(0, length))), `cut at ${length}`).toBe('CFN_REQUEST_MALFORMED');
    }
  });
  test('any flipped byte', async () => {
    const { keys, header, chunks } = await sealedChunks();
    const whole = concatBytes(header, ...chunks);
    for (let at = 0; at < whole.length; at++) {
      const flipped = new Uint8Array(whole);
      flipped[at] = (flipped[at] ?? 0) ^ 0x01;
      expect(await code(openAll(keys, flipped)), `byte ${at}`).toBe(
        at < 7 ? 'CFN_KEY_CONFIG_STALE' : 'CFN_REQUEST_MALFORMED',
      );
    }
  });
  test('chunks swapped, repeated, left out, or after the final one', async () => {
    const { keys, header, chunks } = await sealedChunks();
    const [one, two, final] = chunks as [Uint8Array, Uint8Array, Uint8Array];
    for (const order of [
      [two, one, final],
      [one, one, two, final],
      [two, final],
      [one, final],
      [one, two, final, one],
      [one, two, final, Uint8Array.of(0)],
    ]) {
      expect(await code(openAll(keys, header, ...order))).toBe('CFN_REQUEST_MALFORMED');
    }
  });
  test('an empty chunk that is not the final one, and one that is too long', async () => {
    const { keys, header, chunks } = await sealedChunks();
    const empty = concatBytes(encodeVarint(16), random(16));
    for (const bad of [empty, encodeVarint(OHTTP_CHUNK_BYTES_MAX + 1), encodeVarint(2 ** 40)]) {
      expect(await code(openAll(keys, header, bad, ...chunks))).toBe('CFN_REQUEST_MALFORMED');
    }
    expect(await code(openAll(keys, header, Uint8Array.of(0), random(OHTTP_CHUNK_BYTES_MAX + 1)))).toBe(
      'CFN_REQUEST_MALFORMED',
    );
  });
  test('another key, and a key id of another configuration', async () => {
    const { header, chunks } = await sealedChunks();
    expect(await code(openAll(await generateOhttpKeys(1, nodeSuite), header, ...chunks))).toBe('CFN_REQUEST_MALFORMED');
    expect(await code(openAll(await generateOhttpKeys(2, nodeSuite), header, ...chunks))).toBe('CFN_KEY_CONFIG_STALE');
  });
  test.each(suites)('%s: an encapsulated key that gives a zero shared secret', async (_, suite) => {
    const keys = await generateOhttpKeys(1, suite);
    const { header } = await createRequestSealer(keys.config, suite);
    expect(
      await code(openAll(keys, header.subarray(0, 7), new Uint8Array(32), Uint8Array.of(0), new Uint8Array(16))),
    ).toBe('CFN_REQUEST_MALFORMED');
    const config = new Uint8Array(keys.config);
    config.fill(0, 3, 35);
    expect(await code(createRequestSealer(config, suite))).toBe('CFN_EVIDENCE_MALFORMED');
  });
  test('nothing is sealed after the final chunk', async () => {
    const sealer = await createRequestSealer((await generateOhttpKeys()).config);
    await sealer.sealFinal(utf8(''));
    expect(await code(sealer.seal(utf8('more')))).toBe('CFN_INTERNAL');
    expect(await code(sealer.sealFinal(utf8('more')))).toBe('CFN_INTERNAL');
  });
  test('seals that overlap keep their order, and no bytes make no chunk', async () => {
    const keys = await generateOhttpKeys();
    const sealer = await createRequestSealer(keys.config);
    const chunks = await Promise.all([
      sealer.seal(utf8('a')),
      sealer.seal(utf8('')),
      sealer.seal(utf8('b')),
      sealer.sealFinal(utf8('c')),
    ]);
    expect(chunks[1]).toHaveLength(0);
    expect(await openAll(keys, sealer.header, ...chunks)).toEqual(utf8('abc'));
  });
  test('every request has its own encapsulated key', async () => {
    const { config } = await generateOhttpKeys();
    const [a, b] = [await createRequestSealer(config), await createRequestSealer(config)];
    expect(toHex(a.header)).not.toBe(toHex(b.header));
  });
});

describe('responses that are refused', () => {
  async function sealedResponse(): Promise<{
    open: (...pieces: Uint8Array[]) => Promise<Uint8Array>;
    header: Uint8Array;
    chunks: Uint8Array[];
  }> {
    const secret = random(16);
    const enc = random(32);
    const sealer = await sealResponse(nodeSuite, secret, enc, random(16));
    const chunks = [
      await sealer.seal(utf8('one')),
      await sealer.seal(utf8('two')),
      await sealer.sealFinal(utf8('three')),
    ];
    const open = async (...pieces: Uint8Array[]): Promise<Uint8Array> => {
      const opener = openResponse(nodeSuite, secret, enc);
      const out: Uint8Array[] = [];
      for (const piece of pieces) out.push(...(await opener.push(piece)));
      return concatBytes(...out, ...(await opener.end()));
    };
    return { open, header: sealer.header, chunks };
  }
  test('cut at every byte: truncated, or, within the final chunk, not to be opened', async () => {
    const { open, header, chunks } = await sealedResponse();
    const whole = concatBytes(header, ...chunks);
    const finalBody = whole.length - (chunks[2]?.length ?? 0) + 1;
    expect(await open(whole)).toEqual(utf8('onetwothree'));
    for (let length = 0; length < whole.length; length++) {
      expect(await code(open(whole.subarray(0, length))), `cut at ${length}`).toBe(
        length < finalBody + 16 ? 'CFN_RESPONSE_TRUNCATED' : 'CFN_RESPONSE_MALFORMED',
      );
    }
  });
  test('flipped bytes, swapped chunks, a final chunk passed off as an earlier one', async () => {
    const { open, header, chunks } = await sealedResponse();
    const [one, two, final] = chunks as [Uint8Array, Uint8Array, Uint8Array];
    const whole = concatBytes(header, one, two, final);
    for (let at = 0; at < whole.length; at++) {
      const flipped = new Uint8Array(whole);
      flipped[at] = (flipped[at] ?? 0) ^ 0x80;
      expect(await code(open(flipped)), `byte ${at}`).not.toBe('no error');
    }
    expect(await code(open(header, two, one, final))).toBe('CFN_RESPONSE_MALFORMED');
    const asFinal = concatBytes(Uint8Array.of(0), two.subarray(1)); // cutting an answer short by relabelling a chunk
    expect(await code(open(header, one, asFinal))).toBe('CFN_RESPONSE_MALFORMED');
    const asMiddle = concatBytes(encodeVarint(final.length - 1), final.subarray(1));
    expect(await code(open(header, one, two, asMiddle))).toBe('CFN_RESPONSE_MALFORMED');
  });
});

describe('key configurations', () => {
  test('the one of the draft', () => {
    expect(parseKeyConfig(DRAFT.config)).toEqual({ keyId: 1, kem: 0x0020, publicKey: DRAFT.config.subarray(3, 35) });
  });
  test.each([
    ['cut', DRAFT.config.subarray(0, 40)],
    ['with bytes left over', concatBytes(DRAFT.config, Uint8Array.of(0))],
    ['with another KEM', concatBytes(hex('010010'), DRAFT.config.subarray(3))],
    ['without our AEAD', concatBytes(DRAFT.config.subarray(0, 35), hex('000400010003'))],
    ['without algorithms', concatBytes(DRAFT.config.subarray(0, 35), hex('0000'))],
    ['with half an algorithm', concatBytes(DRAFT.config.subarray(0, 35), hex('0006000100010001'))],
  ])('%s is refused', (_, config) => {
    expect(() => parseKeyConfig(config)).toThrow(expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }));
  });
});
