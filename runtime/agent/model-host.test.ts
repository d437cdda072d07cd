import { expect, test } from 'vitest';
import { DEFAULT_LIMITS, sha256Hex, utf8, type FunctionManifest, type SignedManifest } from '../../proto/index.ts';
import { modelHost, type ModelHost } from './model-host.ts';

const packageBytes = utf8(
  JSON.stringify({
    format: 'cfn/model/v1',
    model: 'acme/m@1',
    files: [
      {
        path: 'model.onnx',
        bytes: 10,
        plaintextDigest: 'a'.repeat(64),
        ciphertextDigest: 'b'.repeat(64),
        segmentBytes: 1024 * 1024,
        noncePrefix: '0'.repeat(14),
      },
    ],
    kms: { url: 'http://kms', publicKey: 'k'.repeat(43) },
  }),
);
const digest = await sha256Hex(packageBytes);

/** A function whose manifest names the package so, in this order. */
function functionOf(...names: string[]): SignedManifest {
  const manifest: FunctionManifest = {
    format: 'cfn/function/v1',
    tenant: 'tenant',
    name: 'ocr',
    compatibilityDate: '2026-11-01',
    code: { digest: 'c'.repeat(64), bytes: 10 },
    models: names.map((model, i) => ({ binding: `M${i}`, model, digest })),
    vars: {},
    limits: DEFAULT_LIMITS,
    egress: { allow: [] },
    caller: { plaintext: false, logs: 'none' },
  };
  return { manifest, version: 'v', author: 'a', jws: names.join(' ') };
}

/** A host whose KMS releases to whoever asks: what is refused, the worker refuses. */
function openHost(): { readonly host: ModelHost; readonly seen: { released: number; loaded: number } } {
  const seen = { released: 0, loaded: 0 };
  const ended = Promise.withResolvers<void>();
  const engine = {
    pid: 1,
    wrappingKey: 'w',
    teePubkey: '',
    sockets: '/nowhere',
    ended: ended.promise,
    kill: () => ended.resolve(),
    load: async () => {
      seen.loaded += 1;
      return { inputs: [], outputs: [] };
    },
    listen: async () => undefined,
    unlisten: async () => undefined,
    setLease: async () => undefined,
  };
  const deps = {
    keys: {
      release: async () => {
        seen.released += 1;
        return {
          lease: `l${seen.released}`,
          policy: 'p',
          challenge: 'c',
          endsAt: performance.now() + 60_000,
          wrappedKey: {},
        };
      },
      leaseRemainingMs: async () => 60_000,
    },
    blobs: {},
    spares: { take: async () => engine, close: () => undefined },
    watch: { follow: () => ({ hears: () => true, stop: () => undefined }), close: () => undefined },
    drops: { report: () => undefined, settled: async () => undefined },
    leaseClockMs: () => performance.now(),
    log: () => undefined,
  };
  return { host: modelHost(deps as unknown as Parameters<typeof modelHost>[0]), seen };
}

test('INV-05 an engine is joined under the name that its owner gave the model, and under no other', async () => {
  const { host, seen } = openHost();
  const [first, second] = [functionOf('acme/m@1'), functionOf('acme/m@1', 'acme/m@1')];
  await host.acquire('M0', packageBytes, first);
  await host.acquire('M1', packageBytes, second);
  expect(seen).toEqual({ released: 2, loaded: 1 });
  const undeclared = { code: 'CFN_MODEL_UNDECLARED' };
  await expect(host.acquire('M0', packageBytes, functionOf('mallory/x@1'))).rejects.toMatchObject(undeclared);
  // The KMS takes the first name under which it has a key, and that may be the other one.
  const both = functionOf('mallory/x@1', 'acme/m@1');
  for (const binding of ['M0', 'M1'])
    await expect(host.acquire(binding, packageBytes, both)).rejects.toMatchObject(undeclared);
  await expect(host.acquire('M0', packageBytes, functionOf())).rejects.toMatchObject(undeclared);
  expect(seen).toEqual({ released: 2, loaded: 1 });
  await host.close();
});
