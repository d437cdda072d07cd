import { Refusal, type Reason } from '../evidence/reasons.ts';
import type { GpuInventory } from './nvml/library.ts';
import type { NvidiaDevices } from './pci.ts';

/** Whether the GPUs have to accept work already, must not yet, or either. */
export type ReadyDemand = 'ready' | 'not-ready' | 'either';

export interface FailedPrecondition {
  readonly reason: Reason;
  readonly message: string;
}

const PRODUCTION = 2;
const ON = 1;
const OFF = 0;
const PROTECTED_PCIE = 1;
const ARCHITECTURES: ReadonlyMap<number, 'HOPPER' | 'BLACKWELL'> = new Map([
  [9, 'HOPPER'],
  [10, 'BLACKWELL'],
]);

/**
 * What stands against collecting GPU evidence here; empty when nothing does. These are early warnings for whoever runs the worker:
 * the verifier believes none of it, and finds the same in the signed reports.
 */
export function failedPreconditions(
  { settings, ready, devices }: GpuInventory,
  onPci: NvidiaDevices,
  demand: ReadyDemand,
): FailedPrecondition[] {
  const failed: FailedPrecondition[] = [];
  const require = (holds: boolean, reason: Reason, message: string): void => {
    if (!holds) failed.push({ reason, message });
  };
  const { environment, ccFeature, devToolsMode, multiGpuMode } = settings;
  require(devices.length > 0, 'collect/gpu-none', 'NVML finds no GPU');
  require(devices.length ===
    onPci.gpus, 'collect/gpu-count', `NVML finds ${devices.length} GPUs, the PCI bus has ${onPci.gpus}`);
  require(environment ===
    PRODUCTION, 'collect/gpu-environment', `environment is ${environment}, expected 2 (production)`);
  // Protected PCIe leaves the GPUs' own CC feature off, and needs evidence of every NVSwitch, which NVML does not give.
  require(multiGpuMode !==
    PROTECTED_PCIE, 'collect/gpu-protected-pcie', 'the GPUs are in protected PCIe mode; NVSwitches give evidence through libnvidia-nscq, not NVML, and that is not supported');
  require(onPci.switches ===
    0, 'collect/gpu-switch', `the PCI bus has ${onPci.switches} NVSwitches; they give evidence through libnvidia-nscq, not NVML, and that is not supported`);
  require(ccFeature === ON, 'collect/gpu-cc-off', `confidential computing is ${ccFeature}, expected 1 (on)`);
  require(devToolsMode === OFF, 'collect/gpu-devtools', `developer tools mode is ${devToolsMode}, expected 0 (off)`);
  require(demand === 'either' ||
    ready ===
      (demand ===
        'ready'), 'collect/gpu-ready-state', `the GPUs are ${ready ? 'ready' : 'not ready'}, expected ${demand}`);
  for (const [index, { architecture }] of devices.entries())
    require(ARCHITECTURES.has(
      architecture,
    ), 'collect/gpu-architecture', `GPU ${index} has architecture ${architecture}, expected 9 (Hopper) or 10 (Blackwell)`);
  return failed;
}

/** @throws {Refusal} with the first precondition's reason and all their messages. */
export function requirePreconditions(failed: readonly FailedPrecondition[]): void {
  const [first] = failed;
  if (first !== undefined) throw new Refusal(first.reason, failed.map(({ message }) => message).join('; '));
}

/** @throws {Refusal} `collect/gpu-architecture` */
export function architectureName(architecture: number): 'HOPPER' | 'BLACKWELL' {
  const name = ARCHITECTURES.get(architecture);
  if (name === undefined)
    throw new Refusal('collect/gpu-architecture', `architecture ${architecture} is neither Hopper nor Blackwell`);
  return name;
}
