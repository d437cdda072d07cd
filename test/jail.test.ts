import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processTree } from '../deploy/index.ts';
import { findBubblewrap } from '../runtime/jail/bubblewrap.ts';
import { openJail, type Layer } from '../runtime/jail/index.ts';
import { thisMachine } from '../runtime/jail/probe.ts';
import { root, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

/** The jail around the processes of a whole system, and a worker on a machine that has none. */
const bubblewrap = findBubblewrap();
const skipped = bubblewrap === undefined && process.env['CI'] === undefined;
const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.length) }';

async function withModel(system: TestSystem): Promise<void> {
  const digest = await system.push('demo/vad@5', VAD_MODEL);
  await system.grant(digest, 'demo/jailed');
  await system.deploy('jailed', SOURCE, { models: [{ binding: 'VAD', model: 'demo/vad@5', digest }] });
  expect((await system.call('jailed')).status).toBe(200);
}

/** Node processes of a kind below the worker. */
function processesOf(system: TestSystem, kind: 'sandbox' | 'engine'): number[] {
  return processTree(system.local.worker().pid).filter((pid) => {
    const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return (
      program.endsWith('/node') && args.some((arg) => /runtime\/(\w+)\/(main\.ts|loader\.cjs)$/.exec(arg)?.[1] === kind)
    );
  });
}
const status = (pid: number, field: string): string =>
  new RegExp(`^${field}:\\s*(\\S+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

describe.skipIf(skipped)('INV-16 a worker on a machine with bubblewrap (scripts/setup-debian.sh)', () => {
  let system: TestSystem;
  beforeAll(async () => {
    system = await startTestSystem();
    await withModel(system);
  });
  afterAll(() => system.stop());

  test.each(['sandbox', 'engine'] as const)('keeps each %s in the jail', (kind) => {
    const pids = processesOf(system, kind);
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of pids) {
      expect(status(pid, 'Seccomp')).toBe('2');
      expect(status(pid, 'NoNewPrivs')).toBe('1');
      expect(status(pid, 'CapEff')).toMatch(/^0+$/);
      for (const name of ['user', 'pid', 'net', 'mnt', 'ipc', 'uts', 'cgroup'])
        expect(readlinkSync(`/proc/${pid}/ns/${name}`)).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
    }
  });

  test('gives each of them another folder, and a control group where it can make one', () => {
    const pids = (['sandbox', 'engine'] as const).flatMap((kind) => processesOf(system, kind));
    const folders = pids.map((pid) => / (\/tmp\/cfn-\S+) /.exec(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'))?.[1]);
    expect(folders.every((folder) => folder !== undefined)).toBe(true);
    expect(new Set(folders).size).toBe(pids.length);
    const groups = pids.map((pid) => readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
    if (thisMachine().cgroups !== undefined)
      for (const group of groups) expect(group).toMatch(new RegExp(`/cfn-${system.local.worker().pid}-`));
  });

  test('passes the allocator’s settings on to them, by which freed memory is overwritten', () => {
    for (const pid of processesOf(system, 'sandbox'))
      expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toContain('MALLOC_PERTURB_=165');
  });

  test('says so', () => expect(system.local.worker().ready.jail).toMatch(/namespaces/));

  test('leaves nothing behind when it is killed: no process, and no control group after the next start', async () => {
    const worker = system.local.worker();
    const pids = processTree(worker.pid).slice(1);
    const groups = pids.flatMap((pid) => groupFolders(pid, worker.pid));
    if (thisMachine().cgroups !== undefined) expect(groups.length).toBeGreaterThan(0);
    worker.kill('SIGKILL');
    await worker.exited;
    for (const end = performance.now() + 10_000; pids.some(isRunning);) {
      expect(performance.now()).toBeLessThan(end);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await system.local.startWorker();
    expect(groups.filter((folder) => existsSync(folder))).toEqual([]);
  }, 60_000);
});

const isRunning = (pid: number): boolean => existsSync(`/proc/${pid}`) && !['Z', 'X'].includes(status(pid, 'State'));

/** Control groups that the worker made and the process is in, as folders. */
function groupFolders(pid: number, worker: number): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm);
  const paths = readFileSync(`/proc/${pid}/cgroup`, 'utf8').matchAll(/:([^:\n]*\/cfn-\d+-[^:\n]*)$/gm);
  const names = [...paths].map(([, path = '']) => path).filter((path) => path.includes(`/cfn-${worker}-`));
  return [...mounts]
    .flatMap(([, folder = '']) => names.map((name) => join(folder, name)))
    .filter((path) => existsSync(path));
}

describe('a worker on a machine without bubblewrap', () => {
  let dir: string;
  /** A path without `bwrap`. */
  const env = { PATH: dirname(process.execPath), HOME: process.env['HOME'] ?? '' };
  beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), 'cfn-unjailed-'))));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test('is refused where every layer is required', () => {
    writeFileSync(join(dir, 'token'), 'token');
    const paths = ['--platform', join(dir, 'platform'), '--gateway-certificate', join(dir, 'token')];
    const blobs = ['--blobs', 'http://127.0.0.1:9', '--blobs-token-file', join(dir, 'token')];
    const program = join(root, 'deploy/simulated-worker.ts');
    const { stderr, status: code } = spawnSync(process.execPath, [program, '--jail', 'required', ...paths, ...blobs], {
      env,
      encoding: 'utf8',
    });
    expect(stderr).toContain('CFN_JAIL_INCOMPLETE');
    expect(stderr).toContain('namespaces');
    expect(code).toBe(4);
  });

  test('serves all the same in simulation, and says which layers are missing', async () => {
    const path = process.env['PATH'];
    process.env['PATH'] = env.PATH; // startLocal passes it on
    const system = await startTestSystem();
    try {
      await withModel(system);
      expect(system.local.worker().ready.jail).toMatch(/^missing: namespaces/);
      expect(processesOf(system, 'sandbox').map((pid) => status(pid, 'Seccomp'))).toContain('0');
    } finally {
      if (path !== undefined) process.env['PATH'] = path;
      await system.stop();
    }
  }, 120_000);

  test('`cfn doctor` names the remedy, and ends with 3', async () => {
    const doctor = spawn(
      process.execPath,
      [fileURLToPath(new URL('../cli/main.ts', import.meta.url)), 'doctor', '--json'],
      {
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let output = '';
    doctor.stdout.on('data', (piece: Buffer) => (output += piece.toString()));
    const code = await new Promise((resolve) => doctor.on('close', resolve));
    const { complete, areas } = JSON.parse(output) as { complete: boolean; areas: { area: string; checks: Layer[] }[] };
    expect([code, complete, areas[0]?.area]).toEqual([3, false, 'sandbox']);
    expect(areas[0]?.checks.find(({ name }) => name === 'namespaces')?.remedy).toContain('apt-get install bubblewrap');
  });
});

test.skipIf(skipped)('here, the layers are what `cfn doctor` says they are', async () => {
  const { layers } = await openJail();
  expect(layers.filter(({ inForce }) => !inForce).map(({ name }) => name)).toEqual(
    thisMachine().cgroups === undefined ? ['memory bound', 'task bound'] : [],
  );
});
