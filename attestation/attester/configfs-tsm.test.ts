import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Reason } from '../evidence/reasons.ts';
import { tsmReporter, type TsmOptions, type TsmReporter } from './configfs-tsm.ts';
import { errno, fakeTsm, recorded, reportDataOf, type FakePlatform, type FakeTsm } from './tsm.testkit.ts';
import { watchedTsm } from './tsm-watched.testkit.ts';

const reportData = reportDataOf('ours');
const request = { provider: 'tdx_guest', reportData } as const;

let tsm: FakeTsm;
afterEach(() => tsm.delete());

function start(platform: FakePlatform = {}, options: Partial<TsmOptions> = {}): TsmReporter {
  tsm = fakeTsm(platform);
  const { directory, files } = tsm;
  return tsmReporter({ directory, files, sleep: () => Promise.resolve(), ...options });
}

async function refusal(reporter: TsmReporter, asked: Parameters<TsmReporter['report']>[0] = request): Promise<Reason> {
  return reporter.report(asked).then(
    () => expect.unreachable('a report came'),
    (error: { reason: Reason }) => error.reason,
  );
}

describe('a report', () => {
  test('comes from a fresh entry, after one write of exactly the 64 bytes, and the entry is gone', async () => {
    const operations: string[] = [];
    const reporter = start({
      before: (operation, path) => void operations.push(`${operation} ${path.split('/').at(-1)}`),
    });
    const { outblob, auxblob } = await reporter.report(request);
    expect(outblob).toEqual(recorded.tdx(reportData));
    expect(auxblob).toHaveLength(0);
    expect(tsm.requests).toEqual([{ reportData, privilegeLevel: 0 }]);
    expect(operations.filter((it) => it.startsWith('write'))).toEqual(['write inblob']);
    expect(await tsm.entries()).toEqual([]);
    await reporter.report(request);
    const made = operations.filter((it) => it.startsWith('make'));
    expect(new Set(made).size).toBe(2);
  });

  test.each([0, 63, 65])('is not asked for with %i bytes of report data', async (length) => {
    await expect(start().report({ ...request, reportData: new Uint8Array(length) })).rejects.toMatchObject({
      code: 'CFN_INPUT_INVALID',
    });
    expect(tsm.requests).toEqual([]);
  });

  test('needs the provider that was asked for, and the provider is told', async () => {
    expect(await start().provider()).toBe('tdx_guest');
    expect(await start({ provider: 'sev_guest' }).provider()).toBe('sev_guest');
    expect(await refusal(start({ provider: 'sev_guest' }))).toBe('collect/wrong-tee');
    await expect(start({ provider: 'arm_cca_guest' }).provider()).rejects.toMatchObject({
      code: 'CFN_TEE_ABSENT',
      reason: 'collect/wrong-tee',
    });
  });

  test.each([
    ['no configfs', () => ({ directory: '/nowhere/report' }), 'collect/no-tee'],
    ['TSM without a provider', () => ({ files: failing('make', 'ENXIO') }), 'collect/no-tee'],
    ['a provider that was unloaded', () => ({ files: failing('read', 'ENOTTY') }), 'collect/no-tee'],
    ['no permission', () => ({ files: failing('make', 'EACCES') }), 'collect/quote-failed'],
    ['an error of the platform', () => ({ files: failing('read', 'EIO') }), 'collect/quote-failed'],
    ['a quote over the kernel’s limit', () => ({ files: failing('read', 'EFBIG') }), 'collect/quote-too-large'],
  ] as const)('is refused for good with %s', async (_, options, reason) => {
    start();
    let tries = 0;
    const reporter = tsmReporter({ ...tsm, ...options(), sleep: async () => void tries++ });
    expect(await refusal(reporter)).toBe(reason);
    expect(tries).toBe(0);
    expect(await tsm.entries()).toEqual([]);
  });

  test('is refused when it is empty, or over our limit', async () => {
    expect(await refusal(start({ quote: () => new Uint8Array() }))).toBe('collect/quote-empty');
    expect(await refusal(start({ quote: () => new Uint8Array(32 * 1024 + 1) }))).toBe('collect/quote-too-large');
    expect(await tsm.entries()).toEqual([]);
  });
});

const failing = (operation: 'make' | 'read', code: string): FakeTsm['files'] => ({
  ...tsm.files,
  [operation]: () => Promise.reject(errno(code)),
});

describe('while others are at it', () => {
  test.each(['EBUSY', 'EINTR', 'EAGAIN', 'ETIMEDOUT'])('tries again after %s, and gives up', async (code) => {
    const pauses: number[] = [];
    const busyFor = (times: number): TsmReporter =>
      start(
        {
          quote: (data) => {
            if (times-- > 0) throw errno(code);
            return recorded.tdx(data);
          },
        },
        { sleep: async (ms) => void pauses.push(ms) },
      );
    await busyFor(3).report(request);
    expect(pauses).toEqual([50, 100, 150]);
    expect(tsm.requests).toHaveLength(4);
    expect(await refusal(busyFor(4))).toBe('collect/busy');
    expect(await tsm.entries()).toEqual([]);
  });

  test.each(['before', 'after'])(
    'refuses a report when somebody wrote %s our write, after some tries',
    async (when) => {
      const theirs = reportDataOf('theirs');
      let intruding = false;
      let times = 0;
      const reporter = start({
        before: async (operation, path) => {
          const now = when === 'before' ? operation === 'read' && path.endsWith('provider') : path.endsWith('outblob');
          if (!now || intruding || times-- <= 0) return;
          intruding = true;
          await tsm.intrude(theirs);
          intruding = false;
        },
      });
      times = 2;
      expect((await reporter.report(request)).outblob).toEqual(recorded.tdx(reportData));
      times = 99;
      expect(await refusal(reporter)).toBe('collect/contended');
    },
  );

  test('asks for one at a time, in order, and goes on after a failure', async () => {
    let open = 0;
    let most = 0;
    const reporter = start({
      before: (operation) => {
        if (operation === 'make') most = Math.max(most, ++open);
        if (operation === 'remove') open--;
      },
      quote: (data) => {
        if (data[0] === reportDataOf('b')[0]) throw errno('EIO');
        return recorded.tdx(data);
      },
    });
    const results = await Promise.allSettled(
      ['a', 'b', 'c', 'd'].map((it) => reporter.report({ ...request, reportData: reportDataOf(it) })),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(tsm.requests.map((it) => it.reportData)).toEqual(['a', 'b', 'c', 'd'].map(reportDataOf));
    expect(most).toBe(1);
  });

  test('lets only so many wait', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const reporter = start({ quote: async (data) => (await promise, recorded.tdx(data)) }, { waitingMax: 2 });
    const served = [1, 2, 3].map(() => reporter.report(request));
    await expect(reporter.report(request)).rejects.toMatchObject({ code: 'CFN_BUSY', reason: 'collect/queue-full' });
    resolve();
    await Promise.all(served);
    await reporter.report(request);
  });

  test('waits no longer than the limit, starts nothing behind a read that hangs, and recovers when it ends', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let hanging = 0;
    const reporter = start(
      {
        quote: async (data) => {
          hanging += 1;
          await promise;
          return recorded.tdx(data);
        },
      },
      { timeoutMs: 500 },
    );
    expect(await Promise.all([refusal(reporter), refusal(reporter)])).toEqual(['collect/timeout', 'collect/timeout']);
    expect(await refusal(reporter)).toBe('collect/timeout');
    expect(hanging).toBe(1);
    resolve();
    await expect.poll(() => tsm.entries(), { timeout: 10_000 }).toEqual([]);
    await reporter.report(request);
    expect(hanging).toBe(2);
  });
});

describe('SEV-SNP', () => {
  const snp = { provider: 'sev_guest', reportData } as const;

  test('gives the certificate table along; a host need not supply one', async () => {
    const table = new Uint8Array([1, 2, 3]);
    expect((await start({ provider: 'sev_guest', auxblob: table }).report(snp)).auxblob).toEqual(table);
    expect((await start({ provider: 'sev_guest', auxblob: new Uint8Array() }).report(snp)).auxblob).toHaveLength(0);
    expect((await start({ provider: 'sev_guest' }).report(snp)).auxblob).toHaveLength(0);
  });

  test('asks at the lowest privilege level that the guest may ask for, unless told otherwise', async () => {
    await start({ provider: 'sev_guest', privilegeFloor: 2 }).report(snp);
    expect(tsm.requests).toMatchObject([{ privilegeLevel: 2 }]);
    const reporter = start({ provider: 'sev_guest', privilegeFloor: 1 });
    await reporter.report({ ...snp, privilegeLevel: 3 });
    expect(tsm.requests).toMatchObject([{ privilegeLevel: 3 }]);
    expect(await refusal(reporter, { ...snp, privilegeLevel: 0 })).toBe('collect/privilege-level');
    expect(await refusal(reporter, { ...snp, privilegeLevel: 4 })).toBe('collect/privilege-level');
  });

  test('does not write a privilege level that is the default', async () => {
    const written: string[] = [];
    const before: FakePlatform['before'] = (operation, path) => void (operation === 'write' && written.push(path));
    await start({ provider: 'sev_guest', privilegeFloor: 0, before }).report(snp);
    expect(written.map((path) => path.split('/').at(-1))).toEqual(['inblob']);
  });
});

test('works on files that somebody else writes, with the real file operations', async () => {
  await using kernel = await watchedTsm();
  const reporter = tsmReporter({ directory: kernel.directory, files: kernel.files });
  for (const text of ['first', 'second']) {
    const asked = reportDataOf(text);
    expect((await reporter.report({ ...request, reportData: asked })).outblob).toEqual(recorded.tdx(asked));
  }
  expect(kernel.inblobSizes.every((size) => size === 64)).toBe(true);
  expect(await readdir(kernel.directory)).toEqual([]);
});

test('removes what crashed processes left, and nothing else', async () => {
  const reporter = start({}, { isRunning: (pid) => pid === 11 });
  const ended = 'cfn-10-00000000-0000-4000-8000-000000000000';
  const kept = ['cfn-11-00000000-0000-4000-8000-000000000000', 'com.intel.something', 'cfn-x'];
  for (const name of [ended, ...kept]) await mkdir(join(tsm.directory, name));
  expect(await reporter.removeLeftovers()).toBe(1);
  expect((await tsm.entries()).toSorted()).toEqual(kept.toSorted());
  expect(await tsmReporter({ directory: '/nowhere' }).removeLeftovers()).toBe(0);
});

test('a process that ended is told from one that runs', async () => {
  const reporter = start({}, {});
  const entry = (pid: number): string => join(tsm.directory, `cfn-${pid}-00000000-0000-4000-8000-000000000000`);
  await mkdir(entry(process.pid));
  await mkdir(entry(2 ** 22 + 1)); // above the largest pid of Linux
  expect(await reporter.removeLeftovers()).toBe(1);
  expect(await tsm.entries()).toEqual([entry(process.pid).split('/').at(-1)]);
});
