import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { fromBase64url } from '../../../proto/index.ts';
import type { Reason } from '../../evidence/reasons.ts';
import { gpuCollector } from '../gpus.ts';
import { nvmlClient, type NvmlClient } from './client.ts';
import { compileFakeNvml, skipReason, type FakeNvml } from './nvml.testkit.ts';

const nonce = new Uint8Array(32).map((_, index) => index + 1);

describe.skipIf(skipReason !== undefined)(`NVML on its C ABI${skipReason ? ` (skipped: ${skipReason})` : ''}`, () => {
  let fake: FakeNvml;
  let nvml: NvmlClient;
  beforeAll(() => {
    fake = compileFakeNvml();
    nvml = nvmlClient({ library: fake.library, timeoutMs: 5000 });
  });
  afterEach(() => fake.turn({}));
  afterAll(() => {
    nvml[Symbol.dispose]();
    fake.delete();
  });

  const collect = (
    onPci = { gpus: 1, switches: 0 },
    readyState: 'ready' | 'not-ready' | 'either' = 'either',
    sleep = () => Promise.resolve(),
  ) => gpuCollector({ nvml, onPci: () => Promise.resolve(onPci), readyState, sleep })(nonce);
  const reasonOf = async (work: Promise<unknown>): Promise<Reason> =>
    work.then(
      () => expect.unreachable('it worked'),
      (error: { reason: Reason }) => error.reason,
    );

  test('reads driver, settings and devices out of their structs', async () => {
    expect(await nvml.inventory()).toEqual({
      driverVersion: '550.90.07',
      settings: { environment: 2, ccFeature: 1, devToolsMode: 0, multiGpuMode: 0 },
      ready: false,
      devices: [{ architecture: 9, vbiosVersion: '96.00.9F.00.01' }],
    });
    fake.turn({ environment: 11, ccFeature: 12, devToolsMode: 13, multiGpuMode: 14, architecture: 0xffffffff });
    expect(await nvml.inventory()).toMatchObject({
      settings: { environment: 11, ccFeature: 12, devToolsMode: 13, multiGpuMode: 14 },
      devices: [{ architecture: 0xffffffff }],
    });
  });

  test('hands the nonce over and gets report and chain back, byte for byte', async () => {
    const { report, certificates } = await nvml.evidence(0, nonce);
    const expected = fake.report.slice();
    expected.set(nonce, 4);
    expect(report).toEqual(expected);
    expect(certificates).toBe(fake.chain);
  });

  test('sets the ready state', async () => {
    await nvml.setReady(true);
    expect((await nvml.inventory()).ready).toBe(true);
    expect(await reasonOf(collect(undefined, 'not-ready'))).toBe('collect/gpu-ready-state');
    await nvml.setReady(false);
    expect((await nvml.inventory()).ready).toBe(false);
    expect(await reasonOf(collect(undefined, 'ready'))).toBe('collect/gpu-ready-state');
  });

  test('runs in one other process, which goes on between calls', async () => {
    await nvml.inventory();
    const pids = new Set(fake.calls().map(({ pid }) => pid));
    expect(pids.size).toBe(1);
    expect(pids.has(process.pid)).toBe(false);
    expect(fake.calls().filter(({ name }) => name === 'nvmlInit_v2')).toHaveLength(1);
  });

  test('collects every GPU with the one nonce', async () => {
    fake.turn({ count: 3, architecture: 10 });
    const gpus = await collect({ gpus: 3, switches: 0 });
    expect(gpus.map(({ arch }) => arch)).toEqual(['BLACKWELL', 'BLACKWELL', 'BLACKWELL']);
    for (const gpu of gpus) expect(fromBase64url(gpu.report).slice(4, 36)).toEqual(nonce);
  });

  test.each([
    ['no GPU', { count: 0 }, 0, 'collect/gpu-none'],
    ['fewer GPUs than PCI has', {}, 2, 'collect/gpu-count'],
    ['more GPUs than PCI has', { count: 2 }, 1, 'collect/gpu-count'],
    ['a simulated environment', { environment: 1 }, 1, 'collect/gpu-environment'],
    ['no environment', { environment: 0 }, 1, 'collect/gpu-environment'],
    ['confidential computing off', { ccFeature: 0 }, 1, 'collect/gpu-cc-off'],
    ['developer tools mode', { devToolsMode: 1 }, 1, 'collect/gpu-devtools'],
    ['protected PCIe', { multiGpuMode: 1, ccFeature: 0 }, 1, 'collect/gpu-protected-pcie'],
    ['an older GPU', { architecture: 8 }, 1, 'collect/gpu-architecture'],
    [
      'a GPU without the feature',
      { nvmlSystemGetConfComputeSettings: 3, nvmlSystemGetConfComputeState: 3 },
      1,
      'collect/gpu-environment',
    ],
    ['a report over another nonce', { staleNonce: 1 }, 1, 'collect/gpu-nonce'],
  ] as const)('refuses %s', async (_, knobs, gpus, reason) => {
    fake.turn(knobs);
    await expect(collect({ gpus, switches: 0 })).rejects.toMatchObject({ code: 'CFN_GPU_NOT_CONFIDENTIAL', reason });
  });

  test('refuses NVSwitches, for which NVML has no evidence', async () => {
    expect(await reasonOf(collect({ gpus: 1, switches: 4 }))).toBe('collect/gpu-switch');
  });

  test.each([
    ['a report size past its array', { reportSize: 0x2001 }],
    ['no report', { reportSize: 0 }],
    ['a chain size past its array', { chainSize: 0x1401 }],
    ['a chain size that cannot be', { chainSize: 0xffffffff }],
    ['no chain', { chainSize: 0 }],
    ['a count that cannot be', { count: 65 }],
    ['an error', { nvmlDeviceGetConfComputeGpuAttestationReport: 999 }],
    ['a lost GPU', { nvmlDeviceGetConfComputeGpuCertificate: 15 }],
    ['an error of settings', { nvmlSystemGetConfComputeSettings: 999 }],
  ] as const)('does not believe %s', async (_, knobs) => {
    fake.turn(knobs);
    await expect(collect()).rejects.toMatchObject({ code: 'CFN_GPU_UNAVAILABLE', reason: 'collect/gpu-call' });
  });

  test('names the call and what NVML says of it', async () => {
    fake.turn({ nvmlDeviceGetConfComputeGpuCertificate: 999 });
    await expect(nvml.evidence(0, nonce)).rejects.toThrow(
      'nvmlDeviceGetConfComputeGpuCertificate: Unknown Error (999)',
    );
  });

  test('tries again while a GPU is in use, and gives up', async () => {
    const pauses: number[] = [];
    const sleep = async (ms: number): Promise<void> => {
      pauses.push(ms);
      if (pauses.length === 2) fake.turn({});
    };
    fake.turn({ nvmlDeviceGetConfComputeGpuAttestationReport: 19 });
    await collect(undefined, 'either', sleep as () => Promise<void>);
    expect(pauses).toEqual([250, 500]);
    fake.turn({ nvmlDeviceGetConfComputeGpuAttestationReport: 10 });
    expect(await reasonOf(collect())).toBe('collect/gpu-busy');
  });

  test('takes only a nonce of 32 bytes', async () => {
    await expect(nvml.evidence(0, new Uint8Array(31))).rejects.toMatchObject({ reason: 'collect/gpu-call' });
  });

  test('an agent goes on while NVML blocks; what hangs is killed, and the next call works', async () => {
    using impatient = nvmlClient({ library: fake.library, timeoutMs: 1500 });
    fake.turn({ 'hang:nvmlDeviceGetArchitecture': 1 });
    let beats = 0;
    const heart = setInterval(() => beats++, 10);
    expect(await reasonOf(impatient.inventory())).toBe('collect/gpu-timeout');
    clearInterval(heart);
    expect(beats).toBeGreaterThan(50);
    const hung = fake.calls().at(-1)?.pid ?? 0;
    await expect.poll(() => isRunning(hung), { timeout: 10_000 }).toBe(false);
    fake.turn({});
    expect((await impatient.inventory()).devices).toHaveLength(1);
  });

  test('a crash in the library is no crash of the agent, and the next call works', async () => {
    fake.turn({ 'crash:nvmlDeviceGetConfComputeGpuAttestationReport': 1 });
    await expect(nvml.evidence(0, nonce)).rejects.toMatchObject({
      code: 'CFN_GPU_UNAVAILABLE',
      reason: 'collect/gpu-process',
    });
    fake.turn({});
    expect((await nvml.evidence(0, nonce)).certificates).toBe(fake.chain);
  });

  test('says that the library or the driver is not there', async () => {
    using none = nvmlClient({ library: '/nowhere/libnvidia-ml.so.1' });
    expect(await reasonOf(none.inventory())).toBe('collect/gpu-library');
    using other = nvmlClient({ library: 'libc.so.6' });
    expect(await reasonOf(other.inventory())).toBe('collect/gpu-library');
    fake.turn({ nvmlInit_v2: 9 });
    using driverless = nvmlClient({ library: fake.library });
    expect(await reasonOf(driverless.inventory())).toBe('collect/gpu-driver');
  });

  test('works with a library that does not know settings yet', async () => {
    const older = compileFakeNvml(['-DWITHOUT_SETTINGS']);
    try {
      using client = nvmlClient({ library: older.library });
      expect((await client.inventory()).settings).toEqual({
        environment: 2,
        ccFeature: 1,
        devToolsMode: 0,
        multiGpuMode: undefined,
      });
    } finally {
      older.delete();
    }
  });
});

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
