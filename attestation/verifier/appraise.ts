import { CfnError, evidenceDigest, workerId, type Evidence, type WorkerKeys } from '../../proto/index.ts';
import { REASONS } from '../evidence/reasons.ts';
import type { SnpClaims } from './amd/claims.ts';
import { appraiseDocument, type DocumentClaims } from './appraisal/document.ts';
import type { BindingLevel } from './binding.ts';
import { Findings, type FailedFinding, type Finding } from './findings.ts';
import type { TdxClaims } from './intel/claims.ts';
import type { GpuClaims, SwitchClaims } from './nvidia/claims.ts';
import { requireWorkerPolicy, type AppraisalPolicy } from './policy/policy.ts';

declare const appraised: unique symbol;

/** What verified evidence says; plain JSON. */
export interface Claims {
  readonly tdx: TdxClaims | undefined;
  readonly snp: SnpClaims | undefined;
  /** Only GPUs and switches that the policy had checked. */
  readonly gpus: readonly GpuClaims[];
  readonly switches: readonly SwitchClaims[];
}

/** Proof that evidence passed appraisal. Only {@link appraise} makes one. */
export interface AttestationResult {
  readonly [appraised]: true;
  readonly tee: Evidence['tee'];
  /** True when nothing but this machine's own root vouches for the platform. */
  readonly simulated: boolean;
  readonly workerId: string;
  readonly workerKeys: WorkerKeys;
  /** The exact bytes that the evidence binds. */
  readonly workerKeysBytes: Uint8Array;
  readonly evidenceDigest: string;
  readonly claims: Claims;
  /** How CPU and GPU evidence are tied together. */
  readonly binding: BindingLevel;
  /** Every check, in order: passed, or left out and why. None failed. */
  readonly findings: readonly Finding[];
}

export interface AppraiseOptions {
  /** The 32 bytes that the relying party sent. */
  readonly nonce: Uint8Array;
  readonly policy: AppraisalPolicy;
  readonly now: Date;
}

/** Evidence was refused, for every reason that `findings` lists. The first one decides the code. */
export class AppraisalRefused extends CfnError {
  readonly findings: readonly Finding[];

  constructor(first: FailedFinding, findings: readonly Finding[]) {
    const details = findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.detail] : []));
    super(REASONS[first.reason], details.join('; '));
    this.findings = findings;
  }
}

const NONCE_BYTES = 32;

/**
 * Appraises a worker's evidence against a policy, offline, with the endorsements that travel with it.
 *
 * @throws {AppraisalRefused} with all the reasons
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when evidence cannot be parsed; `CFN_TEE_REFUSED` when the policy is for another TEE kind;
 *   `CFN_POLICY_INVALID` for a policy that no worker may be appraised under
 */
export async function appraise(
  evidence: Evidence,
  { nonce, policy, now }: AppraiseOptions,
): Promise<AttestationResult> {
  if (nonce.length !== NONCE_BYTES)
    throw new CfnError('CFN_INPUT_INVALID', `nonce has ${nonce.length} bytes, expected ${NONCE_BYTES}`);
  requireWorkerPolicy(policy);
  const findings = new Findings();
  const document = await appraiseDocument({ evidence, nonce, policy, now }, findings);
  const [first] = findings.failures;
  if (first !== undefined) throw new AppraisalRefused(first, findings.list);
  const { workerKeys, workerKeysBytes, binding } = document;
  if (workerKeys === undefined) throw new CfnError('CFN_EVIDENCE_MALFORMED', 'the evidence is for no worker');
  const result: Omit<AttestationResult, typeof appraised> = {
    tee: evidence.tee,
    simulated: policy.tee.kind === 'simulated',
    workerId: await workerId(workerKeysBytes),
    workerKeys,
    workerKeysBytes,
    evidenceDigest: await evidenceDigest(evidence),
    claims: claimsOf(document),
    binding,
    findings: findings.list,
  };
  return result as AttestationResult; // the one mint: no check failed
}

function claimsOf({ tdx, snp, gpus, switches }: DocumentClaims): Claims {
  return { tdx, snp, gpus, switches };
}
