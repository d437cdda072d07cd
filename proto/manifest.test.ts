import { generateKeyPair, exportJWK, CompactSign } from 'jose';
import { describe, expect, test } from 'vitest';
import { sha256Hex, signManifest, utf8, verifyBundle, verifyManifest, type FunctionManifest } from './index.ts';

const bundle = utf8('export default { fetch: () => new Response("hi") }');

async function signed(change: Partial<FunctionManifest> = {}) {
  const keys = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  const manifest: FunctionManifest = {
    format: 'cfn/function/v1',
    tenant: 'acme',
    name: 'hello',
    compatibilityDate: '2026-11-01',
    code: { digest: await sha256Hex(bundle), bytes: bundle.length },
    models: [],
    vars: {},
    limits: { cpuMs: 1000, wallMs: 1000, memoryMb: 64 },
    egress: { allow: [] },
    caller: { plaintext: false, logs: 'none' },
    ...change,
  };
  return { keys, ...(await signManifest(manifest, keys.privateKey, await exportJWK(keys.publicKey))) };
}

describe('INV-08 signed manifests', () => {
  test('a signed manifest verifies, and its version is the digest of the payload', async () => {
    const { jws, version, author, manifest } = await signed();
    const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url');
    expect(await verifyManifest(jws)).toEqual({ jws, version, author, manifest });
    expect(version).toBe(await sha256Hex(payload));
  });

  test('any altered character of the payload is refused', async () => {
    const { jws } = await signed();
    const [header = '', payload = '', signature = ''] = jws.split('.');
    for (let i = 0; i < payload.length; i += 17) {
      const other = payload[i] === 'A' ? 'B' : 'A';
      const altered = [header, payload.slice(0, i) + other + payload.slice(i + 1), signature].join('.');
      await expect(verifyManifest(altered)).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
    }
  });

  test('a signature by another key than the one in the header is refused', async () => {
    const one = await signed();
    const other = await signed();
    const [header] = other.jws.split('.');
    const [, payload, signature] = one.jws.split('.');
    await expect(verifyManifest([header, payload, signature].join('.'))).rejects.toMatchObject({
      code: 'CFN_MANIFEST_ALTERED',
    });
  });

  test('unknown members and another algorithm are refused', async () => {
    const { keys, manifest } = await signed();
    const jwk = await exportJWK(keys.publicKey);
    const extra = await new CompactSign(utf8(JSON.stringify({ ...manifest, more: 1 })))
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: 'cfn-function+jws',
        jwk: { kty: 'OKP', crv: 'Ed25519', x: jwk.x ?? '' },
      })
      .sign(keys.privateKey);
    await expect(verifyManifest(extra)).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
    const hmac = await new CompactSign(utf8(JSON.stringify(manifest)))
      .setProtectedHeader({
        alg: 'HS256',
        typ: 'cfn-function+jws',
        jwk: { kty: 'OKP', crv: 'Ed25519', x: jwk.x ?? '' },
      })
      .sign(new Uint8Array(32));
    await expect(verifyManifest(hmac)).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
  });

  test('a bundle that differs in one byte is refused', async () => {
    const { manifest } = await signed();
    await expect(verifyBundle(manifest, bundle)).resolves.toBeUndefined();
    const altered = bundle.slice();
    altered[5] = (altered[5] ?? 0) ^ 1;
    await expect(verifyBundle(manifest, altered)).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
    await expect(verifyBundle(manifest, bundle.subarray(1))).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
  });
});
