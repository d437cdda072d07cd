import { exportJWK, generateKeyPair } from 'jose';
import { describe, expect, test } from 'vitest';
import { sha256Hex, signManifest, utf8 } from '../../proto/index.ts';
import { functionHost } from './function-host.ts';
import type { ModelHost } from './model-host.ts';
import type { PreparedSandbox } from './sandbox-process.ts';
import { spareProcess } from './spare-process.ts';

const bundle = utf8('export default { fetch: () => new Response("hi") }');

async function manifestOf(models: readonly { binding: string; model: string; digest: string }[] = []) {
  const keys = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  return signManifest(
    {
      format: 'cfn/function/v1',
      tenant: 'acme',
      name: 'hello',
      compatibilityDate: '2026-11-01',
      code: { digest: await sha256Hex(bundle), bytes: bundle.length },
      models: [...models],
      vars: {},
      limits: { cpuMs: 1000, wallMs: 1000, memoryMb: 64 },
      egress: { allow: [] },
      caller: { plaintext: false, logs: 'none' },
    },
    keys.privateKey,
    await exportJWK(keys.publicKey),
  );
}

/** A host whose models and sandboxes only count. */
function host() {
  const seen = { started: 0, killed: 0, acquired: 0 };
  const retired = Promise.withResolvers<void>();
  const models: ModelHost = {
    acquire: async () => {
      seen.acquired += 1;
      throw new Error('no model here');
    },
    close: async () => undefined,
    resident: () => [],
    pids: () => [],
    leases: () => 0,
  };
  const sandboxes = spareProcess<PreparedSandbox>(async () => ({
    pid: 1,
    ended: new Promise(() => undefined),
    kill: () => void (seen.killed += 1),
    wrappingKey: () => Promise.reject(new Error('not here')),
    async start() {
      seen.started += 1;
      const ended = new Promise<void>(() => undefined);
      const invoke = (): Promise<never> => Promise.reject(new Error('not here'));
      const first = seen.started === 1;
      return {
        pid: 1,
        ended,
        retired: first ? retired.promise : ended,
        invoke,
        abort: () => undefined,
        inflight: () => 0,
        retire: () => undefined,
        kill: () => undefined,
      };
    },
  }));
  return {
    functions: functionHost(models, { acquire: async () => undefined }, sandboxes, {
      idleMs: 600_000,
      memoryBytes: 2 ** 30,
      monotonicMs: () => performance.now(),
    }),
    seen,
    retireFirst: retired.resolve,
  };
}

describe('INV-08 the worker starts what the author signed', () => {
  test('and that only', async () => {
    const { functions, seen } = host();
    const { jws, version } = await manifestOf();
    expect((await functions.load(jws, bundle, [])).version).toBe(version);
    expect(seen.started).toBe(1);
    expect(functions.signed(version).jws).toBe(jws);
  });

  test('not an altered bundle, whatever the gateway says', async () => {
    const { functions, seen } = host();
    const { jws } = await manifestOf();
    const altered = bundle.slice();
    altered[20] = (altered[20] ?? 0) ^ 1;
    await expect(functions.load(jws, altered, [])).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
    expect(seen.started).toBe(0);
  });

  test('not an altered manifest', async () => {
    const { functions, seen } = host();
    const [header = '', payload = '', signature = ''] = (await manifestOf()).jws.split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object;
    const altered = Buffer.from(JSON.stringify({ ...claims, tenant: 'other' })).toString('base64url');
    const jws = [header, altered, signature].join('.');
    await expect(functions.load(jws, bundle, [])).rejects.toMatchObject({ code: 'CFN_MANIFEST_ALTERED' });
    expect(seen.started).toBe(0);
  });
});

test('without its model a function does not start, and the sandbox made for it ends', async () => {
  const { functions, seen } = host();
  const { jws } = await manifestOf([{ binding: 'M', model: 'acme/m@1', digest: 'a'.repeat(64) }]);
  await expect(functions.load(jws, bundle, [utf8('{}')])).rejects.toThrow('no model here');
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen).toEqual({ started: 0, killed: 1, acquired: 1 });
  const unnamed = await manifestOf([{ binding: 'M', model: 'acme/m@2', digest: 'b'.repeat(64) }]);
  await expect(functions.load(unnamed.jws, bundle, [])).rejects.toMatchObject({ code: 'CFN_MODEL_NOT_FOUND' });
});

test('a sandbox that ran out of memory gets no more requests', async () => {
  const { functions, seen, retireFirst } = host();
  const { jws, version } = await manifestOf();
  await functions.load(jws, bundle, []);
  const { sandbox } = await functions.ready(version);
  expect((await functions.ready(version)).sandbox).toBe(sandbox);
  retireFirst();
  await new Promise((resolve) => setImmediate(resolve));
  expect(seen.started).toBe(2); // before anybody asks
  expect((await functions.ready(version)).sandbox).not.toBe(sandbox);
});

test('a version that nobody handed over is not found', async () => {
  await expect(host().functions.ready('b'.repeat(64))).rejects.toMatchObject({ code: 'CFN_FUNCTION_NOT_FOUND' });
});
