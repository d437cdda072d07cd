import type { FeatureMode, GpuReport } from '../../evidence/nvidia.ts';
import { refuse } from '../../evidence/reasons.ts';

/**
 * How a GPU is passed through, from its feature flag and its protected PCIe state, which must agree. Reports without the flag are of
 * drivers that know single passthrough and protected PCIe only.
 *
 * @throws {Refusal} `policy/gpu-mode` when the two contradict each other
 */
export function readMode({ featureMode, protectedPcie }: GpuReport, name: string): FeatureMode {
  if (featureMode === 'unknown' || protectedPcie === 'unknown') return 'unknown';
  const isProtected = protectedPcie === 'on';
  if (featureMode === undefined) return isProtected ? 'protected-pcie' : 'single-passthrough';
  if (protectedPcie !== undefined && isProtected !== (featureMode === 'protected-pcie'))
    refuse('policy/gpu-mode', `${name} reports the mode ${featureMode}, and protected PCIe ${protectedPcie}`);
  return featureMode;
}
