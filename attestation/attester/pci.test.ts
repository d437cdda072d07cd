import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nvidiaOnPci } from './pci.ts';

test('counts NVIDIA’s GPUs and NVSwitches, and nothing else', async () => {
  const bus = await mkdtemp(join(tmpdir(), 'cfn-pci-'));
  const devices = [
    ['0x10de', '0x030200'], // 3D controller: H100
    ['0x10de', '0x030000'], // VGA
    ['0x10de', '0x068000'], // NVSwitch
    ['0x10de', '0x040300'], // the audio function of a GPU
    ['0x8086', '0x030000'], // another maker's GPU
    ['0x1af4', '0x020000'], // virtio
  ];
  for (const [index, [vendor, kind]] of devices.entries()) {
    const device = join(bus, `0000:00:0${index}.0`);
    await mkdir(device);
    await writeFile(join(device, 'vendor'), `${vendor}\n`);
    await writeFile(join(device, 'class'), `${kind}\n`);
  }
  await mkdir(join(bus, '0000:00:0f.0')); // gone while we look
  expect(await nvidiaOnPci(bus)).toEqual({ gpus: 2, switches: 1 });
  expect(await nvidiaOnPci(join(bus, 'none'))).toEqual({ gpus: 0, switches: 0 });
  await rm(bus, { recursive: true });
});
