import { z } from 'zod';
import { notChecked, reason, references, requiredOr, simulatedRoot } from './common.ts';

/** How GPUs are passed to the guest, as their reports say (opaque field 36); older drivers do not. */
export const GPU_MODES = ['single-passthrough', 'multi-gpu-passthrough', 'protected-pcie'] as const;

const version = z.string().min(1).max(64);
const versions = z.union([
  z.strictObject({ oneOf: z.array(version).max(64) }),
  /** Numbers are compared part by part. */
  z.strictObject({ minimum: version }),
  notChecked,
]);
/** RIM index, from 0: SPDM block index less one. */
const index = z.string().regex(/^(0|[1-9][0-9]{0,2})$/);

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
  architectures: z.array(z.enum(['HOPPER', 'BLACKWELL'])),
  driver: versions,
  vbios: versions,
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
  modes: z.union([z.array(z.enum(GPU_MODES)), notChecked]),
  /** OCSP or CRLs, for the device chains and for the signers of the RIMs. */
  revocation: requiredOr,
});
export type GpuPolicy = z.infer<typeof gpuSchema>;
