import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCgroups, type CgroupFiles } from './cgroup.ts';

const BOUNDS = { memoryBytes: 64 * 1024 * 1024, tasks: 16 };
const PID = 4242;
const STARTED = 777;

/** Folders and files that look like the kernel's. They hold no process: what the kernel does with them, `probe.test.ts` sees. */
let dir: string;
let killed: number[];
let files: CgroupFiles;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'cfn-cgroup-'));
  killed = [];
  files = { proc: join(dir, 'proc'), pid: PID, kill: (pid) => void killed.push(pid) };
  mkdirSync(join(dir, 'proc/self'), { recursive: true });
  process_(PID, STARTED);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function process_(pid: number, started: number): void {
  mkdirSync(join(dir, 'proc', String(pid)), { recursive: true });
  const fields = ['S', 1, ...Array.from({ length: 17 }, () => 0), started, 0];
  writeFileSync(join(dir, `proc/${pid}/stat`), `${pid} (node) worker) ${fields.join(' ')}`);
}
function unified(
  own: string,
  groups: Record<string, { controllers?: string; subtree?: string; procs?: string }>,
): void {
  writeFileSync(join(dir, 'proc/self/mountinfo'), `30 23 0:26 / ${dir}/cg rw,nosuid - cgroup2 cgroup2 rw\n`);
  writeFileSync(join(dir, 'proc/self/cgroup'), `0::${own}\n`);
  for (const [path, { controllers = '', subtree = '', procs = '' }] of Object.entries(groups)) {
    mkdirSync(join(dir, 'cg', path), { recursive: true });
    writeFileSync(join(dir, 'cg', path, 'cgroup.controllers'), controllers);
    writeFileSync(join(dir, 'cg', path, 'cgroup.subtree_control'), subtree);
    writeFileSync(join(dir, 'cg', path, 'cgroup.procs'), procs);
  }
}

describe('version 2', () => {
  test('a delegated worker in a leaf makes groups beside itself', () => {
    unified('/unit/worker', {
      unit: { controllers: 'cpu memory pids', subtree: 'memory pids' },
      'unit/worker': { controllers: 'memory', subtree: '' },
    });
    const cgroups = openCgroups(files);
    expect(cgroups).toMatchObject({ version: 2, resources: ['memory', 'pids'] });
    const [joinFile = '', ...others] = cgroups?.make(BOUNDS).joinFiles ?? [];
    expect(others).toEqual([]);
    const folder = dirname(joinFile);
    expect(folder).toMatch(new RegExp(`/cg/unit/cfn-${PID}-${STARTED}-\\d+$`));
    expect(readFileSync(join(folder, 'memory.max'), 'utf8')).toBe(String(BOUNDS.memoryBytes));
    expect(readFileSync(join(folder, 'memory.swap.max'), 'utf8')).toBe('0');
    expect(readFileSync(join(folder, 'pids.max'), 'utf8')).toBe('16');
  });

  test.each([
    ['both are delegated', 'hugetlb'],
    ['the second one is', 'memory'],
  ])('there is none unless %s', (_what, controllers) => {
    unified('/', { '': { controllers, subtree: controllers } });
    expect(openCgroups(files)).toBeUndefined();
  });
});

test('a machine without control groups has none', () => {
  writeFileSync(join(dir, 'proc/self/mountinfo'), '22 1 0:20 / /proc rw - proc proc rw\n');
  writeFileSync(join(dir, 'proc/self/cgroup'), '');
  expect(openCgroups(files)).toBeUndefined();
});

describe('what workers left', () => {
  const both = { controllers: 'memory pids', subtree: 'memory pids' };
  const sweep = (name: string, procs = ''): boolean => {
    unified('/', { '': both });
    mkdirSync(join(dir, 'cg', name));
    if (procs !== '') writeFileSync(join(dir, 'cg', name, 'cgroup.procs'), procs);
    openCgroups(files);
    return !existsSync(join(dir, 'cg', name));
  };

  test('is removed when the worker is no more, or another has its pid', () => {
    process_(5000, 111);
    expect(sweep('cfn-4999-1-1')).toBe(true);
    expect(sweep('cfn-5000-110-1')).toBe(true);
  });
  test('stays while the worker runs; and so does what is not ours', () => {
    process_(5000, 111);
    expect(sweep('cfn-5000-111-1')).toBe(false);
    expect(sweep('user.slice')).toBe(false);
  });
  test('is ended first', () => {
    sweep('cfn-4999-1-1', '31\n32\n');
    expect(killed).toEqual([31, 32]);
  });
  test('is left alone where its processes are of another pid namespace', () => {
    sweep('cfn-4999-1-1', '0\n33\n');
    expect(killed).toEqual([]);
  });
});

const here = { proc: '/proc', pid: process.pid, kill: (pid: number) => void process.kill(pid, 'SIGKILL') };
const real = openCgroups(here);

describe.skipIf(real === undefined)('on this machine (needs control groups that can be written)', () => {
  test('a group is gone once its process has ended', async () => {
    const group = real?.make(BOUNDS);
    const folders = group?.joinFiles.map((file) => file.slice(0, -'/cgroup.procs'.length)) ?? [];
    expect(folders.every((folder) => existsSync(folder))).toBe(true);
    const join_ = group?.joinFiles.map((file) => `echo $$ > '${file}'`).join(' && ');
    const child = spawn('/bin/sh', ['-c', `${join_} && echo in && exec sleep 60`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    await group?.remove();
    expect(folders.filter((folder) => existsSync(folder))).toEqual([]);
  });

  test('it holds: the same work is done without it', () => {
    const group = real?.make({ memoryBytes: 24 * 1024 * 1024, tasks: 8 });
    const work = 'head -c 64000000 /dev/zero | tail -c 64000000 | wc -c';
    const run = (script: string): string => spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' }).stdout.trim();
    expect(run(work)).toBe('64000000');
    if (real?.resources.includes('memory') === true)
      expect(run(`${group?.joinFiles.map((file) => `echo $$ > '${file}'`).join(' && ')} && ${work}`)).not.toBe(
        '64000000',
      );
    return group?.remove();
  });
});
