import { toHex } from '../../proto/index.ts';
import { parseWorkerPolicy, type AppraisalPolicy } from '../verifier/index.ts';
import { SIMULATED_DRIVER, SIMULATED_VBIOS, simulatedGpuMeasurements } from './gpu-report.ts';
import type { SimulatedPlatform } from './platform.ts';
import { simulatedMeasurements } from './quote.ts';

/**
 * The policy that accepts one simulated platform, running what `mrtd` (48 bytes) measures, with its simulated GPU, and
 * nothing else. A GPU is demanded unless `gpu` is false.
 */
export async function simulatedPolicy(
  platform: SimulatedPlatform,
  { mrtd, gpu = true }: { readonly mrtd: Uint8Array; readonly gpu?: boolean },
): Promise<AppraisalPolicy> {
  const { mrseam, rtmrs } = await simulatedMeasurements();
  const [rtmr0, rtmr1, rtmr2, rtmr3] = rtmrs.map((value) => [toHex(value)]);
  const zero = [toHex(new Uint8Array(48))];
  return parseWorkerPolicy({
    format: 'cfn/appraisal-policy/v2',
    name: 'simulated',
    tee: {
      kind: 'simulated',
      root: platform.roots.pck,
      septVeDisable: 'required',
      mrtd: [toHex(mrtd)],
      mrseam: [toHex(mrseam)],
      rtmr0,
      rtmr1,
      rtmr2,
      rtmr3,
      mrconfigid: zero,
      mrowner: zero,
      mrownerconfig: zero,
      mrservicetd: 'none',
    },
    gpu: gpu ? await gpuPolicy(platform.roots.gpu) : { notRequired: 'simulated worker without GPU' },
    binding: gpu ? 'one-report' : { notRequired: 'simulated worker without GPU' },
    tpm: { notRequired: 'the simulation has none' },
    token: { notRequired: 'the simulation has none' },
  });
}

async function gpuPolicy(root: string): Promise<AppraisalPolicy['gpu']> {
  const measurements = await simulatedGpuMeasurements();
  return {
    root: { kind: 'simulated', root },
    countMin: 1,
    countMax: 1,
    architectures: ['HOPPER'],
    driver: { oneOf: [SIMULATED_DRIVER] },
    vbios: { oneOf: [SIMULATED_VBIOS] },
    firmwareId: 'required',
    measurements: {
      values: Object.fromEntries(measurements.map((value, index) => [String(index), [toHex(value)]])),
    },
    modes: { notChecked: 'the simulated GPU has none' },
    switches: { whenSupplied: 'the simulated GPU is behind none' },
    revocation: { notChecked: 'simulated GPU: no vendor endorses it' },
    certificateHold: 'forbidden',
  };
}
