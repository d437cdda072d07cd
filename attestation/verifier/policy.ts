import { z } from 'zod';
import { CfnError, frame, sha256Hex, utf8 } from '../../proto/index.ts';
import { INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT } from './trust-anchors.ts';

const reason = z.string().min(1).max(300);
/** A check that the policy leaves out, and why. It is listed in `skipped` of every result. */
const notChecked = z.strictObject({ notChecked: reason });
const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
const measurementSchema = z.string().regex(/^[0-9a-f]{96}$/, 'expected 96 lower-case hexadecimal digits (SHA-384)');
/** Reference values; any one of them is accepted, so an empty list accepts nothing. */
const measurements = z.array(measurementSchema).max(256);
const measurementsOrNot = z.union([measurements, notChecked]);
const versionsOrNot = z.union([z.array(z.string().min(1).max(64)).max(64), notChecked]);

const simulatedRoot = sha256Schema.refine((root) => root !== INTEL_SGX_ROOT && root !== NVIDIA_DEVICE_ROOT, {
  message: "a simulated root cannot be a vendor's root",
});

/**
 * Intel's endorsements. Their verification (TCB info, QE identity, CRLs) is not part of this version, so each can only be
 * left out, with a reason; a real platform's results list all three in `skipped`.
 */
const endorsements = {
  /** Intel's signed QE identity: SVN levels of the quoting enclave. Its signer and product are always checked. */
  qeIdentity: notChecked,
  /** Intel's signed TCB info: level of CPU, microcode and TDX module. */
  tcb: notChecked,
  /** Certificate revocation lists of the PCK chain. */
  revocation: notChecked,
};

const teeSchema = z.discriminatedUnion('kind', [
  /** Real TDX under Intel's pinned root. Evidence that calls itself simulated is refused. */
  z.strictObject({ kind: z.literal('tdx'), ...endorsements }),
  /** The simulated platform whose root has this SHA-256. Evidence that calls itself real is refused. */
  z.strictObject({ kind: z.literal('simulated'), root: simulatedRoot, ...endorsements }),
]);

const gpuSchema = z.strictObject({
  /** Root of the device chains: NVIDIA's pinned one, or a simulated one. */
  root: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('nvidia') }),
    z.strictObject({ kind: z.literal('simulated'), root: simulatedRoot }),
  ]),
  /** GPUs that must be there at least, each with its own device key. Every GPU in the evidence is checked. */
  countMin: z.int().min(1).max(16),
  architectures: z.array(z.enum(['HOPPER', 'BLACKWELL'])),
  driverVersions: versionsOrNot,
  vbiosVersions: versionsOrNot,
  /** The report's firmware id must be the certificate's. Drivers before 550 do not report it. */
  firmwareId: z.union([z.literal('required'), notChecked]),
  /**
   * Reference values by RIM index (from 0; SPDM block index less one), any one of a list is accepted. No entry at all
   * accepts nothing. That debugging is off follows from these alone (attestation-formats §4.4).
   */
  measurements: z.union([z.record(z.string().regex(/^(0|[1-9][0-9]{0,2})$/), measurements), notChecked]),
  /** OCSP or CRLs of the device chain. Not part of this version. */
  revocation: notChecked,
});

/**
 * What a relying party demands of evidence. Every field is required; what does not apply says so with a reason
 * (`{ "notChecked": … }`, `{ "notRequired": … }`). Debugging is refused always, so no field speaks of it.
 *
 * Verification of Intel's and NVIDIA's endorsements arrives later: today `tee.qeIdentity`, `tee.tcb`, `tee.revocation` and
 * `gpu.revocation` must be `{ "notChecked": reason }`. A policy of kind `tdx` thus accepts platforms whose firmware is
 * out of date, or revoked, and each result says so in `skipped`.
 */
export const appraisalPolicySchema = z
  .strictObject({
    format: z.literal('cfn/appraisal-policy/v1'),
    /** For people; part of the digest. */
    name: z.string().min(1).max(100),
    tee: teeSchema,
    /** Build-time measurement of the TD. */
    mrtd: measurements,
    /** Measurement of the TDX module. */
    mrseam: measurementsOrNot,
    rtmr0: measurementsOrNot,
    rtmr1: measurementsOrNot,
    rtmr2: measurementsOrNot,
    rtmr3: measurementsOrNot,
    mrconfigid: measurementsOrNot,
    mrowner: measurementsOrNot,
    mrownerconfig: measurementsOrNot,
    /** Service TDs. Quotes of version 4 do not carry it, so a list refuses them. */
    mrservicetd: measurementsOrNot,
    /** TDATTRIBUTES bit 28: no exception is raised inside the TD for pages that the host took away. */
    septVeDisable: z.union([z.literal('required'), notChecked]),
    gpu: z.union([gpuSchema, z.strictObject({ notRequired: reason })]),
  })
  .refine(
    (policy) =>
      'notRequired' in policy.gpu || (policy.tee.kind === 'simulated') === (policy.gpu.root.kind === 'simulated'),
    {
      path: ['gpu', 'root', 'kind'],
      message: 'TEE and GPU must both be real, or both simulated',
    },
  );
export type AppraisalPolicy = z.infer<typeof appraisalPolicySchema>;
export type GpuPolicy = z.infer<typeof gpuSchema>;

/**
 * @throws {CfnError} `CFN_POLICY_INVALID`, with the path of each wrong field.
 */
export function parsePolicy(json: unknown): AppraisalPolicy {
  const parsed = appraisalPolicySchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'policy'}: ${issue.message}`);
  throw new CfnError('CFN_POLICY_INVALID', issues.join('; '));
}

/** SHA-256, hexadecimal, over the policy as JSON with sorted keys: two files that say the same have one digest. */
export function policyDigest(policy: AppraisalPolicy): Promise<string> {
  return sha256Hex(frame('cfn/appraisal-policy/v1', utf8(sortedJson(policy))));
}

function sortedJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
