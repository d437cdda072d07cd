import { z } from 'zod';
import { CfnError, frame, sha256Hex, utf8 } from '../../../proto/index.ts';
import { isNotChecked, notRequired } from './common.ts';
import { gpuSchema, type GpuPolicy } from './gpu.ts';
import { tokenSchema, tpmSchema } from './services.ts';
import { teeSchema, type TeePolicy } from './tee.ts';

/**
 * What a relying party demands of evidence. Every field is required; what does not apply says so with a reason
 * (`{ "notChecked": … }`, `{ "notRequired": … }`), which every result repeats. As JSON or TOML; see docs/attestation.md.
 */
export const appraisalPolicySchema = z
  .strictObject({
    format: z.literal('cfn/appraisal-policy/v2'),
    /** For people; part of the digest. */
    name: z.string().min(1).max(100),
    tee: teeSchema,
    gpu: z.union([gpuSchema, notRequired]),
    /** Least binding of CPU and GPU evidence: a digest of all GPU evidence in the CPU's report, or the same nonce for all. */
    binding: z.union([z.enum(['one-report', 'same-nonce']), notRequired]),
    tpm: z.union([tpmSchema, notRequired]),
    token: z.union([tokenSchema, notRequired]),
  })
  .refine(
    ({ tee, gpu }) =>
      'notRequired' in gpu || tee.kind === 'none' || (tee.kind === 'simulated') === (gpu.root.kind === 'simulated'),
    { path: ['gpu', 'root', 'kind'], message: 'TEE and GPU must both be real, or both simulated' },
  )
  .refine(({ gpu }) => 'notRequired' in gpu || gpu.countMin <= gpu.countMax, {
    path: ['gpu', 'countMax'],
    message: 'expected countMin at least',
  })
  .refine((policy) => !(policy.name.startsWith('production') && isSimulated(policy)), {
    path: ['name'],
    message: 'a production policy accepts nothing simulated',
  });
export type AppraisalPolicy = z.infer<typeof appraisalPolicySchema>;

interface Simulatable {
  readonly tee: TeePolicy;
  readonly gpu: GpuPolicy | { readonly notRequired: string };
}

/** Whether no vendor vouches for what the policy accepts, or for a part of it. */
export function isSimulated({ tee, gpu }: Simulatable): boolean {
  return tee.kind === 'simulated' || (!('notRequired' in gpu) && gpu.root.kind === 'simulated');
}

/**
 * A policy for any evidence, such as a GPU's alone.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID`, with the path of each wrong field.
 */
export function parsePolicy(value: unknown): AppraisalPolicy {
  const parsed = appraisalPolicySchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(parsed.error.issues.flatMap((issue) => describe(issue)).join('; '));
}

/**
 * A policy for workers: what admits them, releases keys to them, or is sealed to.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID`, also for a policy that no worker may be appraised under; see {@link requireWorkerPolicy}.
 */
export function parseWorkerPolicy(value: unknown): AppraisalPolicy {
  const policy = parsePolicy(value);
  requireWorkerPolicy(policy);
  return policy;
}

/**
 * A worker has a TEE, without debugging, that runs something known, and binds its GPUs in the same report. A policy cannot
 * leave that out.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID`
 */
export function requireWorkerPolicy({ tee, gpu, binding, tpm, token }: AppraisalPolicy): void {
  if (tee.kind === 'none') throw invalid('tee.kind: a worker has a TEE');
  if (tee.kind === 'snp' && tee.guestPolicy.debug !== 'forbidden')
    throw invalid('tee.guestPolicy.debug: a worker does not run with debugging');
  if (isNotChecked(tee.kind === 'snp' ? tee.measurement : tee.mrtd))
    throw invalid(`tee.${tee.kind === 'snp' ? 'measurement' : 'mrtd'}: what a worker runs is always checked`);
  if (!('notRequired' in tpm)) throw invalid("tpm: a worker's evidence brings no TPM quote");
  if (!('notRequired' in token)) throw invalid("token: a worker's evidence brings no token");
  if (!('notRequired' in gpu) && binding !== 'one-report')
    throw invalid('binding: a worker binds its GPUs in one report');
}

/** SHA-256, hexadecimal, over the policy as JSON with sorted keys: two files that say the same have one digest. */
export function policyDigest(policy: AppraisalPolicy): Promise<string> {
  return sha256Hex(frame('cfn/appraisal-policy/v2', utf8(sortedJson(policy))));
}

function sortedJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}

/** A union's issues are those of the branch that came nearest, so that a wrong field is named and not the whole part. */
function describe(issue: z.core.$ZodIssue, above: readonly PropertyKey[] = []): string[] {
  const path = [...above, ...issue.path];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const [nearest = []] = issue.errors.toSorted((a, b) => distance(a) - distance(b));
    return nearest.flatMap((inner) => describe(inner, path));
  }
  return [`${path.join('.') || 'policy'}: ${issue.message}`];
}

/** A branch of another form altogether is far off. */
function distance(issues: readonly z.core.$ZodIssue[]): number {
  const elsewhere = issues.some(({ path, code }) => path.length === 0 && code !== 'unrecognized_keys');
  return issues.length + (elsewhere ? 1000 : 0);
}

function invalid(message: string): CfnError {
  return new CfnError('CFN_POLICY_INVALID', message);
}
