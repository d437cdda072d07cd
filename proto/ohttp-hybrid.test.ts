import { readFileSync } from 'node:fs';
import { AEAD_ChaCha20Poly1305, KDF_HKDF_SHA256 } from '@panva/hpke-noble';
import { CipherSuite } from 'hpke';
import { describe, expect, test } from 'vitest';
import { MLKEM768_X25519 as nodeKem } from './hybrid-kem-node.ts';
import { MLKEM768_X25519 as browserKem } from './hybrid-kem.ts';
import {
  concatBytes,
  createRequestOpener,
  createRequestSealer,
  encodeKeyConfigList,
  fromHex,
  generateOhttpKeys,
  HYBRID_KEM,
  parseKeyConfig,
  parseKeyConfigList,
  toHex,
  utf8,
  type OhttpKeys,
} from './index.ts';
import { nodeSuite } from './node.ts';
import { responseKeys } from './ohttp-response.ts';
import { webCryptoSuite, type OhttpSuite } from './ohttp-suite.ts';

const suites: [string, OhttpSuite][] = [
  ['WebCrypto', webCryptoSuite],
  ['node:crypto', nodeSuite],
];
const refusal = (code: string): unknown => expect.objectContaining({ code });
async function openAll(keys: readonly OhttpKeys[], ...pieces: Uint8Array[]): Promise<Uint8Array> {
  const opener = createRequestOpener(...keys);
  const out: Uint8Array[] = [];
  for (const piece of pieces) out.push(...(await opener.push(piece)));
  return concatBytes(...out, ...(await opener.end()));
}
async function seal(config: Uint8Array, suite: OhttpSuite): Promise<Uint8Array> {
  const sealer = await createRequestSealer(config, suite);
  return concatBytes(sealer.header, await sealer.sealFinal(utf8('secret')));
}

describe.each([
  ['JavaScript', browserKem],
  ['node:crypto', nodeKem],
])('%s against the vector of draft-ietf-hpke-pq', (_, kem) => {
  const vector = JSON.parse(
    readFileSync(new URL('vectors/hpke/mlkem768-x25519.json', import.meta.url), 'utf8'),
  ) as Record<'info' | 'skRm' | 'pkRm' | 'enc', string> & {
    encryption: Record<'aad' | 'ct' | 'pt', string>;
    export: { exporter_context: string; L: number; exported_value: string };
  };
  const suite = new CipherSuite(kem, KDF_HKDF_SHA256, AEAD_ChaCha20Poly1305);

  test('opens, exports, and has the public key of the seed', async () => {
    const publicKey = await suite.DeserializePublicKey(fromHex(vector.pkRm));
    const privateKey = await suite.DeserializePrivateKey(fromHex(vector.skRm));
    const info = fromHex(vector.info);
    const context = await suite.SetupRecipient({ privateKey, publicKey }, fromHex(vector.enc), { info });
    const { aad, ct, pt } = vector.encryption;
    expect(toHex(await context.Open(fromHex(ct), fromHex(aad)))).toBe(pt);
    const { exporter_context, L, exported_value } = vector.export;
    expect(toHex(await context.Export(fromHex(exporter_context), L))).toBe(exported_value);
    expect(toHex(await suite.SerializePublicKey(publicKey))).toBe(vector.pkRm);
  });
  test('an altered encapsulated key gives another secret, silently, as ML-KEM does', async () => {
    const privateKey = await suite.DeserializePrivateKey(fromHex(vector.skRm));
    const { aad, ct } = vector.encryption;
    for (const at of [0, 1087, 1088]) {
      const enc = fromHex(vector.enc);
      enc[at] = (enc[at] ?? 0) ^ 1;
      const context = await suite.SetupRecipient(privateKey, enc, { info: fromHex(vector.info) });
      await expect(context.Open(fromHex(ct), fromHex(aad))).rejects.toThrow();
    }
  });
});

describe.each(suites.flatMap(([a, client]) => suites.map(([b, worker]) => [a, b, client, worker] as const)))(
  '%s client, %s worker',
  (_a, _b, client, worker) => {
    test('a worker that offers both opens what is sealed to either', async () => {
      const keys = [await generateOhttpKeys(1, worker), await generateOhttpKeys(2, worker, HYBRID_KEM)];
      for (const [index, name] of (['X25519', 'MLKEM768-X25519'] as const).entries()) {
        const config = keys[index]?.config ?? new Uint8Array();
        const sealer = await createRequestSealer(config, client);
        expect(sealer.keyExchange).toBe(name);
        const opener = createRequestOpener(...keys);
        const whole = concatBytes(sealer.header, await sealer.sealFinal(utf8('in')));
        for (const byte of whole) await opener.push(Uint8Array.of(byte));
        expect((await opener.end()).map(toHex)).toEqual([toHex(utf8('in'))]);
        expect(toHex(opener.encapsulatedKey())).toBe(toHex(sealer.header.subarray(7)));
        const answer = await opener.createResponseSealer();
        const reader = await sealer.createResponseOpener();
        await reader.push(concatBytes(answer.header, await answer.sealFinal(utf8('out'))));
        expect((await reader.end()).map(toHex)).toEqual([toHex(utf8('out'))]);
      }
    });
  },
);

describe('what is refused', () => {
  test('a hybrid request, by a worker without that key, or with another', async () => {
    const hybrid = await generateOhttpKeys(2, nodeSuite, HYBRID_KEM);
    const sealed = await seal(hybrid.config, nodeSuite);
    expect(await openAll([hybrid], sealed)).toEqual(utf8('secret'));
    await expect(openAll([await generateOhttpKeys(2, nodeSuite)], sealed)).rejects.toThrow(
      refusal('CFN_KEY_CONFIG_STALE') as Error,
    );
    await expect(openAll([await generateOhttpKeys(2, nodeSuite, HYBRID_KEM)], sealed)).rejects.toThrow(
      refusal('CFN_REQUEST_MALFORMED') as Error,
    );
    await expect(openAll([hybrid], sealed.subarray(0, 600))).rejects.toThrow(refusal('CFN_REQUEST_MALFORMED') as Error);
  });
  test('a configuration that the implementation cannot use', async () => {
    const { config } = await generateOhttpKeys(2, nodeSuite, HYBRID_KEM);
    const without = { ...nodeSuite, hpke: new Map([...nodeSuite.hpke].filter(([id]) => id !== HYBRID_KEM)) };
    await expect(seal(config, without)).rejects.toThrow(refusal('CFN_EVIDENCE_MALFORMED') as Error);
    // OpenSSL checks ML-KEM public keys (FIPS 203 §7.2); the JavaScript one takes this one, which only its own worker could offer.
    const bad = new Uint8Array(config);
    bad.fill(0xff, 3, 6);
    await expect(seal(bad, nodeSuite)).rejects.toThrow(refusal('CFN_EVIDENCE_MALFORMED') as Error);
  });
});

describe('key configuration lists', () => {
  test('in order; what is of others is passed over', async () => {
    const [classic, hybrid] = [
      await generateOhttpKeys(1, nodeSuite),
      await generateOhttpKeys(2, nodeSuite, HYBRID_KEM),
    ];
    const unknown = Uint8Array.of(3, 0x00, 0x10, ...new Uint8Array(65), 0, 4, 0, 1, 0, 1);
    const list = encodeKeyConfigList([hybrid.config, unknown, classic.config]);
    expect(parseKeyConfigList(list)).toEqual([parseKeyConfig(hybrid.config), parseKeyConfig(classic.config)]);
    for (const bad of [list.subarray(0, list.length - 1), new Uint8Array(0), encodeKeyConfigList([unknown])])
      expect(() => parseKeyConfigList(bad)).toThrow(refusal('CFN_EVIDENCE_MALFORMED') as Error);
  });
});

// RFC 9458, appendix A: the unchunked type, which differs in its labels; the suite and the key configuration are ours.
describe.each(suites)('%s against the example of RFC 9458', (_, suite) => {
  const config = fromHex('01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003');
  const sealed = fromHex(
    '010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b4726374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525',
  );
  test('opens its request, and the answer to it', async () => {
    const { publicKey, kem } = parseKeyConfig(config);
    const hpke = suite.hpke.get(kem);
    if (hpke === undefined) throw new Error('no suite');
    const pair = {
      publicKey: await hpke.DeserializePublicKey(publicKey),
      privateKey: await hpke.DeserializePrivateKey(
        fromHex('3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a'),
      ),
    };
    const info = concatBytes(utf8('message/bhttp request\0'), sealed.subarray(0, 7));
    const context = await hpke.SetupRecipient(pair, sealed.subarray(7, 39), { info });
    expect(toHex(await context.Open(sealed.subarray(39)))).toBe('00034745540568747470730b6578616d706c652e636f6d012f');

    const answer = fromHex('c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd');
    const secret = await context.Export(utf8('message/bhttp response'), 16);
    const { key, baseNonce } = await responseKeys(suite, secret, sealed.subarray(7, 39), answer.subarray(0, 16));
    expect(toHex(await suite.aead.Open(key, baseNonce, new Uint8Array(0), answer.subarray(16)))).toBe('0140c8');
  });
});
