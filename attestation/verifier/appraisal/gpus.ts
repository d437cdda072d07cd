import type { Crl } from '../../evidence/crl.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import type { OcspResponse } from '../../evidence/ocsp.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { appraiseGpus, appraiseSwitches } from '../nvidia/appraise.ts';
import { collectGpuClaims, collectSwitchClaims, type GpuClaims, type SwitchClaims } from '../nvidia/claims.ts';
import type { NvidiaDeviceEvidence } from '../nvidia/device.ts';
import { createRimCache } from '../nvidia/rim-cache.ts';
import { verifyNvidia, type NvidiaVerification } from '../nvidia/verify.ts';
import { isNotChecked } from '../policy/common.ts';
import type { GpuPolicy } from '../policy/gpu.ts';
import { NVIDIA_RIM_ROOT } from '../trust-anchors.ts';

/** A report with the chain that came with it, leaf first. */
export interface DeviceInput {
  readonly report: GpuReport | SwitchReport;
  readonly chain: readonly Certificate[];
}

export interface NvidiaInput {
  readonly devices: readonly DeviceInput[];
  readonly rims: readonly Uint8Array[];
  readonly ocsp: readonly OcspResponse[];
  readonly crls: readonly Crl[];
  readonly policy: GpuPolicy;
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly now: Date;
}

export interface NvidiaClaims {
  readonly gpus: readonly GpuClaims[];
  readonly switches: readonly SwitchClaims[];
}

/** RIMs that verified, over all appraisals of this process. Dates and revocation are looked at each time. */
const rimCache = createRimCache();

/** Verifies GPUs and switches and compares them with the policy. Switches alone are compared with what concerns them. */
export async function appraiseNvidia(
  { devices, policy, ...rest }: NvidiaInput,
  findings: Findings,
): Promise<NvidiaClaims & { readonly verification: NvidiaVerification }> {
  const { root, revocation } = policy;
  const verification = await verifyNvidia(
    {
      ...rest,
      ...named(devices),
      revocation: isNotChecked(revocation) ? { whenSupplied: revocation.notChecked } : revocation,
      ...(root.kind === 'simulated' && { roots: { device: root.root, rim: NVIDIA_RIM_ROOT } }),
      holdTolerated: policy.certificateHold !== 'forbidden',
      rimCache,
    },
    findings,
  );
  const { gpus, switches } = verification;
  if (gpus.length === 0 && switches.length > 0) {
    const { measurements } = policy;
    const ofRims = measurements === 'rims' || 'values' in measurements;
    await appraiseSwitches(switches, { measurements: ofRims ? 'rims' : measurements }, findings);
  } else await appraiseGpus(verification, policy, findings);
  return { gpus: gpus.map(collectGpuClaims), switches: switches.map(collectSwitchClaims), verification };
}

function named(devices: readonly DeviceInput[]) {
  const gpus: NvidiaDeviceEvidence<GpuReport>[] = [];
  const switches: NvidiaDeviceEvidence<SwitchReport>[] = [];
  for (const { report, chain } of devices) {
    if (report.kind === 'gpu') gpus.push({ name: `GPU ${gpus.length}`, report, chain });
    else switches.push({ name: `switch ${switches.length}`, report, chain });
  }
  return { gpus, switches };
}
