import { kernelFiles, type KernelFiles } from './files.ts';

const PCI_DEVICES = '/sys/bus/pci/devices';
const NVIDIA = '0x10de';
/** VGA and 3D controllers: base class 03, subclasses 00 and 02. */
const GPU_CLASS = /^0x030[02]/;
/** "Other bridge": how NVSwitches show. */
const SWITCH_CLASS = /^0x0680/;

/** NVIDIA's devices as the VM's PCI bus shows them, whatever the driver says. The host decides what is on this bus. */
export interface NvidiaDevices {
  readonly gpus: number;
  readonly switches: number;
}

/** Counts NVIDIA's GPUs and NVSwitches. A machine without PCI has none. */
export async function nvidiaOnPci(
  directory: string = PCI_DEVICES,
  files: KernelFiles = kernelFiles,
): Promise<NvidiaDevices> {
  const devices = await files.list(directory).catch(() => []);
  const read = async (device: string, attribute: string): Promise<string> =>
    new TextDecoder()
      .decode(await files.read(`${directory}/${device}/${attribute}`, 4096).catch(() => undefined))
      .trim();
  const classes = await Promise.all(
    devices.map(async (device) => ((await read(device, 'vendor')) === NVIDIA ? read(device, 'class') : '')),
  );
  return {
    gpus: classes.filter((it) => GPU_CLASS.test(it)).length,
    switches: classes.filter((it) => SWITCH_CLASS.test(it)).length,
  };
}
