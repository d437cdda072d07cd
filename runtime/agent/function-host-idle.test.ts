import { exportJWK, generateKeyPair } from 'jose';
import { expect, test } from 'vitest';
import { sha256Hex, signManifest, utf8 } from '../../proto/index.ts';
import { functionHost, type FunctionHost } from './function-host.ts';
import type { ModelHost } from './model-host.ts';
import type { PreparedSandbox, SandboxProcess } from './sandbox-process.ts';
import { spareProcess } from './spare-process.ts';

const bundle = utf8('export default { fetch: () => new Response("hi") }');
const MiB = 2 ** 20;
/** A sandbox of 64 MiB with what it needs by itself. */
const SANDBOX_MIB = 160;

async function manifestOf(name: string) {
  const keys = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  return signManifest(
    {
      format: 'cfn/function/v1',
      tenant: 'acme',
      name,
      compatibilityDate: '2026-11-01',
      code: { digest: await sha256Hex(bundle), bytes: bundle.length },
      models: [],
      vars: {},
      limits: { cpuMs: 1000, wallMs: 1000, memoryMb: 64 },
      egress: { allow: [] },
      caller: { plaintext: false, logs: 'none' },
    },
    keys.privateKey,
    await exportJWK(keys.publicKey),
  );
}

/** A host with a clock of the test's, and sandboxes that say how busy they are. */
function host(memoryMib: number) {
  let nowMs = 0;
  const inflight = new Map<SandboxProcess, number>();
  const models: ModelHost = {
    acquire: () => Promise.reject(new Error('no model here')),
    close: async () => undefined,
    resident: () => [],
    pids: () => [],
    leases: () => 0,
  };
  const sandboxes = spareProcess<PreparedSandbox>(async () => {
    const ended = Promise.withResolvers<void>();
    const sandbox: SandboxProcess = {
      pid: 1,
      ended: ended.promise,
      retired: new Promise(() => undefined),
      invoke: () => Promise.reject(new Error('not here')),
      inflight: () => inflight.get(sandbox) ?? 0,
      abort: () => undefined,
      retire: ended.resolve,
      kill: ended.resolve,
    };
    return {
      pid: 1,
      ended: ended.promise,
      kill: ended.resolve,
      wrappingKey: () => Promise.reject(new Error('not here')),
      start: async () => sandbox,
    };
  });
  const functions = functionHost(models, { acquire: async () => undefined }, sandboxes, {
    idleMs: 60_000,
    memoryBytes: memoryMib * MiB,
    monotonicMs: () => nowMs,
  });
  return { functions, inflight, pass: (ms: number) => (nowMs += ms) };
}

const running = (functions: FunctionHost): string[] => functions.running().map(({ version }) => version);

test('what nobody called for longest makes room; what runs a request, or just ran one, does not', async () => {
  const { functions, inflight, pass } = host(2 * SANDBOX_MIB);
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map(manifestOf));
  if (a === undefined || b === undefined || c === undefined) throw new Error('not made');
  await functions.load(a.jws, bundle, []);
  await functions.load(b.jws, bundle, []);
  expect(functions.memory()).toEqual({ budget: 2 * SANDBOX_MIB * MiB, free: 0 });
  await expect(functions.load(c.jws, bundle, [])).rejects.toMatchObject({ code: 'CFN_BUSY' });

  pass(10_000);
  inflight.set((await functions.ready(a.version)).sandbox, 1);
  pass(10_000);
  await functions.load(c.jws, bundle, []);
  expect(running(functions)).toEqual([a.version, c.version]); // b was called last before a, but a runs a request

  const { sandbox } = await functions.ready(c.version);
  inflight.set(sandbox, 1);
  pass(10_000);
  await expect(functions.ready(b.version)).rejects.toMatchObject({ code: 'CFN_BUSY' });
  inflight.set(sandbox, 0);
  pass(10_000);
  await functions.ready(b.version); // started anew from what was kept
  expect(running(functions)).toEqual([a.version, b.version]);
});

test('a request for what is starting waits for that one', async () => {
  const { functions } = host(SANDBOX_MIB);
  const { jws, version } = await manifestOf('a');
  await Promise.all([functions.load(jws, bundle, []), functions.load(jws, bundle, [])]);
  const [one, two] = await Promise.all([functions.ready(version), functions.ready(version)]);
  expect(one.sandbox).toBe(two.sandbox);
});
