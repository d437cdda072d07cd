import { setTimeout as sleepMs } from 'node:timers/promises';
import { equalBytes, toBase64url } from '../../proto/index.ts';
import { parseGpuReport } from '../evidence/nvidia.ts';
import { Refusal, refuse } from '../evidence/reasons.ts';
import type { CollectGpus } from './attester.ts';
import { architectureName, failedPreconditions, requirePreconditions, type ReadyDemand } from './gpu-preconditions.ts';
import type { NvmlClient } from './nvml/client.ts';
import { nvidiaOnPci, type NvidiaDevices } from './pci.ts';

/** Tries while a GPU answers another process. */
const ATTEMPTS = 4;
const BACKOFF_MS = 250;

export interface GpuCollectorOptions {
  readonly nvml: NvmlClient;
  readonly onPci?: () => Promise<NvidiaDevices>;
  /** Default `either`: weights reach a GPU only after a key was released, and that took an appraisal. */
  readonly readyState?: ReadyDemand;
  readonly sleep?: (ms: number) => Promise<void>;
}

/**
 * Collects from every GPU of this VM, in NVML's order, all with the same nonce; one that fails stops the whole. The preconditions are
 * checked each time, as the state can change. NVSwitches are not covered: NVML gives no evidence of theirs.
 *
 * @throws {Refusal} `collect/gpu-…`
 */
export function gpuCollector({
  nvml,
  onPci = nvidiaOnPci,
  readyState = 'either',
  sleep = (ms) => sleepMs(ms),
}: GpuCollectorOptions): CollectGpus {
  const ask = async <T>(question: () => Promise<T>): Promise<T> => {
    for (let attempts = 1; ; attempts++) {
      try {
        return await question();
      } catch (cause) {
        const busy = cause instanceof Refusal && cause.reason === 'collect/gpu-busy';
        if (!busy || attempts === ATTEMPTS) throw cause;
        await sleep(BACKOFF_MS * attempts);
      }
    }
  };
  return async (nonce) => {
    const inventory = await ask(() => nvml.inventory());
    requirePreconditions(failedPreconditions(inventory, await onPci(), readyState));
    const gpus = [];
    for (const [index, { architecture }] of inventory.devices.entries()) {
      const { report, certificates } = await ask(() => nvml.evidence(index, nonce));
      if (!equalBytes(parseGpuReport(report).nonce, nonce))
        refuse('collect/gpu-nonce', `the report of GPU ${index} answers another nonce`);
      gpus.push({ arch: architectureName(architecture), report: toBase64url(report), certificates });
    }
    return gpus;
  };
}
