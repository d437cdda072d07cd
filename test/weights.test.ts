import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open, readdir, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn, type Ended } from '../cli/testkit.ts';
import { processTree } from '../deploy/index.ts';
import { addModel } from '../runtime/engine/engine.harness.ts';
import { root, startTestSystem, type TestSystem } from './local-system.ts';

/** Models that no process can take into memory at a whim, pushed by `cfn` through a network that breaks. */

const MB = 1_000_000;
const WEIGHTS_BYTES = 320 * MB;
const TENSORS = 8;

let system: TestSystem;
let cwd: string;
let network: Network;
let env: Record<string, string>;

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'cfn-weights-'));
  system = await startTestSystem();
  network = await breakingNetwork(system.local.gatewayUrl);
  const { token, kms, kmsToken, policy } = system.local.config;
  env = { CFN_GATEWAY: network.url, CFN_TOKEN: token, CFN_KMS: kms, CFN_KMS_TOKEN: kmsToken, CFN_POLICY: policy };
  await writeFile(join(cwd, 'big.onnx'), addModel(WEIGHTS_BYTES / 4 / TENSORS, [['location', 'big.bin']], TENSORS));
  await writeFile(join(cwd, 'big.bin'), '');
  await truncate(join(cwd, 'big.bin'), WEIGHTS_BYTES); // zeros, and no blocks
});
afterAll(async () => {
  network?.close();
  await system?.stop();
  rmSync(cwd, { recursive: true, force: true });
});

const push = (name: string, ...more: string[]): string[] => {
  return ['model', 'push', 'big.onnx', '--file', 'big.bin', '--name', name, ...more];
};
const stateFiles = (): Promise<string[]> => readdir(join(cwd, '.local/state/cfn/push')).catch(() => []);

describe('cfn model push of 320 MB', () => {
  test('goes on where it broke off, and takes no more memory than for a small one', { timeout: 300_000 }, async () => {
    network.cutAfter(120 * MB);
    const cut = await measured(push('demo/big@1'));
    expect(cut).toMatchObject({ code: 3, stderr: expect.stringContaining('CFN_BLOB_UNREACHABLE') });
    expect(network.sent()).toBeGreaterThan(119 * MB);

    const [state] = await stateFiles();
    const kept = join(cwd, '.local/state/cfn/push', state ?? '');
    expect((await stat(kept)).mode & 0o777).toBe(0o600);

    network.cutAfter(Infinity);
    const whole = await measured(push('demo/big@1'));
    expect(whole).toMatchObject({ code: 0, stderr: expect.stringContaining('going on with the push') });
    expect(network.sent()).toBeLessThan(WEIGHTS_BYTES - 115 * MB);
    expect(await stateFiles()).toEqual([]);
    for (const { peakBytes } of [cut, whole]) expect(peakBytes).toBeLessThan(200 * MB);
    expect(peakBytes(system.local.gateway.pid)).toBeLessThan(300 * MB);
  });

  test('is refused when a file changed in between, until it is told to start over', { timeout: 300_000 }, async () => {
    network.cutAfter(40 * MB);
    expect(await runCfn(push('demo/big@2'), { cwd, env })).toMatchObject({ code: 3 });
    network.cutAfter(Infinity);
    const file = await open(join(cwd, 'big.bin'), 'r+');
    await file.write(new Uint8Array([1]), 0, 1, 300 * MB);
    await file.close();
    const refused = await runCfn(push('demo/big@2'), { cwd, env });
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/--start-over.*big\.bin changed since/s) });
    expect(network.sent()).toBe(0);
    const otherToken = { ...env, CFN_KMS_TOKEN: 'another' };
    expect(await runCfn(push('demo/big@2'), { cwd, env: otherToken })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('does not open with this token'),
    });
    expect(await runCfn(push('demo/big@2', '--start-over'), { cwd, env })).toMatchObject({ code: 0 });
    expect(network.sent()).toBeGreaterThan(WEIGHTS_BYTES);
    expect(await runCfn(push('demo/big@2'), { cwd, env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CFN_CONFLICT'),
    });
  });

  test(
    'loads in a worker: the agent holds none of it, the engine no more than ONNX Runtime needs',
    { timeout: 300_000 },
    async () => {
      const list = (await (await system.control('GET', '/v1/models')).json()) as {
        models: { model: string; digest: string }[];
      };
      const digest = list.models.find(({ model }) => model === 'demo/big@1')?.digest ?? '';
      await system.grant(digest, 'demo/user');
      const agent = system.local.worker().pid;
      await system.deploy('user', 'export default { fetch: (_, env) => Response.json(env.BIG.inputs) }', {
        models: [{ binding: 'BIG', model: 'demo/big@1', digest }],
      });
      expect(await (await system.call('user')).json()).toMatchObject([{ dims: [WEIGHTS_BYTES / 4 / TENSORS] }]);
      expect(peakBytes(agent)).toBeLessThan(400 * MB);
      const engine =
        processTree(agent)
          .map(peakBytes)
          .toSorted((a, b) => b - a)[0] ?? 0;
      // Our plaintext, ONNX Runtime's copy, and what it leaves of its heap, for as long as it makes the session.
      expect(engine).toBeGreaterThan(WEIGHTS_BYTES);
      const resident = (): number => Math.max(...processTree(agent).map((pid) => memoryOf(pid, 'VmRSS')));
      await expect.poll(resident, { timeout: 20_000 }).toBeLessThan(WEIGHTS_BYTES + 300 * MB);
      expect(engine).toBeLessThan(3 * WEIGHTS_BYTES + 300 * MB);
    },
  );
});

/** Runs `cfn`, and says how much memory it had at most. */
async function measured(args: readonly string[]): Promise<Ended & { readonly peakBytes: number }> {
  const options = { cwd, env: { PATH: process.env['PATH'] ?? '', HOME: cwd, ...env } };
  const child = spawn(process.execPath, [join(root, 'cli/main.ts'), ...args], options);
  let [stdout, stderr, most] = ['', '', 0];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const timer = setInterval(() => (most = Math.max(most, peakBytes(child.pid ?? 0))), 20);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearInterval(timer);
  return { code, stdout, stderr, peakBytes: most };
}

/** The most that was ever resident. */
const peakBytes = (pid: number): number => memoryOf(pid, 'VmHWM');

/** As in proc(5). */
function memoryOf(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  try {
    return (
      Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
    );
  } catch {
    return 0; // it has ended
  }
}

interface Network {
  readonly url: string;
  /** Bytes of blobs that were sent since `cutAfter`. */
  sent(): number;
  /** From now on a connection breaks when so many bytes of blobs have been sent. */
  cutAfter(bytes: number): void;
  close(): void;
}

/** Passes requests on to the gateway, until it is to break. */
async function breakingNetwork(gateway: string): Promise<Network> {
  let [sent, limit] = [0, Infinity];
  const server = createServer((incoming, answer) => {
    const passed = request(
      `${gateway}${incoming.url}`,
      { method: incoming.method, headers: incoming.headers },
      (reply) => {
        answer.writeHead(reply.statusCode ?? 500, reply.headers);
        reply.pipe(answer);
      },
    );
    passed.on('error', () => answer.destroy());
    incoming.on('data', (piece: Buffer) => {
      if (incoming.method === 'PATCH') sent += piece.length;
      if (sent < limit) return;
      passed.destroy();
      incoming.destroy();
    });
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent: () => sent,
    cutAfter: (bytes) => void ([sent, limit] = [0, bytes]),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
