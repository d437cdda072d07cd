import { expect, test } from 'vitest';
import { failedPreconditions, requirePreconditions } from './gpu-preconditions.ts';
import type { GpuInventory } from './nvml/library.ts';

const good: GpuInventory = {
  driverVersion: '550.90.07',
  settings: { environment: 2, ccFeature: 1, devToolsMode: 0, multiGpuMode: 0 },
  ready: false,
  devices: [{ architecture: 9, vbiosVersion: '96.00.9F.00.01' }],
};
const one = { gpus: 1, switches: 0 };

test('nothing stands against GPUs in production mode, with NVLink encryption or a driver that knows no modes', () => {
  for (const multiGpuMode of [0, 2, undefined])
    expect(failedPreconditions({ ...good, settings: { ...good.settings, multiGpuMode } }, one, 'either')).toEqual([]);
  expect(failedPreconditions({ ...good, ready: true }, one, 'ready')).toEqual([]);
  expect(failedPreconditions(good, one, 'not-ready')).toEqual([]);
});

test('all that fails is listed, each with its reason, and the first one names the refusal', () => {
  const failed = failedPreconditions(
    {
      ...good,
      settings: { environment: 1, ccFeature: 0, devToolsMode: 1, multiGpuMode: 1 },
      devices: [...good.devices, { architecture: 8, vbiosVersion: '' }],
    },
    { gpus: 1, switches: 4 },
    'ready',
  );
  expect(failed.map(({ reason }) => reason)).toEqual([
    'collect/gpu-count',
    'collect/gpu-environment',
    'collect/gpu-protected-pcie',
    'collect/gpu-switch',
    'collect/gpu-cc-off',
    'collect/gpu-devtools',
    'collect/gpu-ready-state',
    'collect/gpu-architecture',
  ]);
  expect(() => requirePreconditions(failed)).toThrow(
    expect.objectContaining({
      reason: 'collect/gpu-count',
      message: failed.map(({ message }) => message).join('; '),
    }) as Error,
  );
  requirePreconditions([]);
});
