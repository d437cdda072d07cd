import { z } from 'zod';
import type { GpuDemands } from '../nvidia/demands.ts';
import { compareVersions } from '../nvidia/version.ts';
import { forbiddenOr, notChecked, reason, references, requiredOr, simulatedRoot } from './common.ts';

const MODES = ['single-passthrough', 'multi-gpu-passthrough', 'protected-pcie'] as const;

const version = z.string().min(1).max(64);

/** @param base of the parts of a version that others are compared with */
function versions(base: 10 | 16) {
  const isVersion = (text: string): boolean => compareVersions(text, text, base) !== undefined;
  return z.union([
    z.strictObject({ oneOf: z.array(version).max(64) }),
    /** Numbers are compared part by part. */
    z.strictObject({ minimum: version.refine(isVersion, 'expected a version, such as 550.90.07') }),
    notChecked,
  ]);
}
/** RIM index, from 0: SPDM block index less one. */
const index = z.string().regex(/^(0|[1-9][0-9]{0,2})$/);

/** {@link GpuDemands} as they are written in a policy, with the root and the demand of revocation data. */
export const gpuSchema = z.strictObject({
  /** Root of the device chains: NVIDIA's pinned one, or a simulated one. */
  root: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('nvidia') }),
    z.strictObject({
      kind: z.literal('simulated'),
      root: simulatedRoot,
    }),
  ]),
  /** GPUs that must be there at least, each with its own device key. Every GPU in the evidence is verified. */
  countMin: z.int().min(1).max(16),
  countMax: z.int().min(1).max(16),
  architectures: z.array(z.enum(['HOPPER', 'BLACKWELL'])),
  driver: versions(10),
  vbios: versions(16),
  /** The report's firmware id must be the certificate's. Drivers before 550 do not report it. */
  firmwareId: z.union([z.literal('required'), z.strictObject({ whenReported: reason })]),
  /**
   * Golden values that every GPU must show: NVIDIA's signed RIMs of its driver and VBIOS, or values of our own by index. That
   * debugging is off follows from these alone (attestation-formats §4.4).
   */
  measurements: z.union([
    z.literal('rims'),
    z.strictObject({ values: z.record(index, references(48).options[0]) }),
    notChecked,
  ]),
  /** How GPUs are passed to the guest, as their reports say. */
  modes: z.union([z.array(z.enum(MODES)), notChecked]),
  /** Reports of all switches that the GPUs are behind (protected PCIe). Those that are there are verified always. */
  switches: z.union([z.literal('required'), z.strictObject({ whenSupplied: reason })]),
  /** OCSP or CRLs, for the device chains and for the signers of the RIMs. */
  revocation: requiredOr,
  /** NVIDIA puts certificates on hold while it looks into a report; a hold can be lifted, a revocation cannot. */
  certificateHold: forbiddenOr,
} satisfies Record<keyof GpuDemands | 'root' | 'revocation' | 'certificateHold', z.ZodType>);
export type GpuPolicy = z.infer<typeof gpuSchema>;
