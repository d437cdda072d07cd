import {
  CfnError,
  equalBytes,
  evidenceDigest,
  evidenceSchema,
  fromBase64url,
  parseWorkerKeys,
  workerId,
  type Evidence,
  type WorkerKeys,
} from '../../proto/index.ts';
import { parseGpuReport } from '../evidence/nvidia.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { parsePemChain } from '../evidence/x509.ts';
import { collectClaims, type Claims } from './claims.ts';
import { gpuRules, skippedGpuEndorsements } from './nvidia.ts';
import type { AppraisalPolicy } from './policy.ts';
import { refuse, type Case, type ParsedGpu, type Rule } from './rule.ts';
import { quoteRules, reportRules, skippedEndorsements } from './tdx.ts';

declare const appraised: unique symbol;

/** Proof that evidence passed appraisal. Only {@link appraise} makes one. */
export interface AttestationResult {
  readonly [appraised]: true;
  readonly tee: AppraisalPolicy['tee']['kind'];
  /** True when nothing but this machine's own root vouches for the platform. */
  readonly simulated: boolean;
  readonly workerId: string;
  readonly workerKeys: WorkerKeys;
  /** The exact bytes that the quote binds. */
  readonly workerKeysBytes: Uint8Array;
  readonly evidenceDigest: string;
  readonly claims: Claims;
  /** Rules that passed, in order. */
  readonly checks: readonly { readonly name: string }[];
  /** What the policy left out, with its reasons. */
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

export interface AppraiseOptions {
  /** The 32 bytes that the relying party sent. */
  readonly nonce: Uint8Array;
  readonly policy: AppraisalPolicy;
  readonly now: Date;
}

const NONCE_BYTES = 32;

/** The policy's whole meaning, in check order. */
const rules: readonly Rule[] = [
  { name: 'nonce', check: requireNonce },
  ...quoteRules,
  ...reportRules,
  { name: 'worker keys are not expired', check: requireLiveKeys },
  ...gpuRules,
];

/**
 * Appraises evidence against a policy, offline. TCB levels and revocation are not checked in this version; `skipped` says so.
 *
 * @throws {CfnError} the code of the first refusal in check order, all refusals in the message; `CFN_TEE_REFUSED` when the
 *   policy is for another TEE kind; `CFN_EVIDENCE_MALFORMED` when evidence cannot be parsed.
 */
export async function appraise(
  evidence: Evidence,
  { nonce, policy, now }: AppraiseOptions,
): Promise<AttestationResult> {
  if (nonce.length !== NONCE_BYTES)
    throw new CfnError('CFN_INPUT_INVALID', `nonce has ${nonce.length} bytes, expected ${NONCE_BYTES}`);
  if (evidence.tee !== policy.tee.kind) {
    throw new CfnError(
      'CFN_TEE_REFUSED',
      `evidence is of kind ${evidence.tee}, the policy accepts ${policy.tee.kind} only`,
    );
  }
  const subject = parseCase(evidence, { nonce, policy, now });
  const skipped: { name: string; reason: string }[] = [];
  const checks: { name: string }[] = [];
  const refusals: CfnError[] = [];
  for (const rule of rules) {
    const reason = rule.skip?.(policy);
    if (reason !== undefined) {
      skipped.push({ name: rule.name, reason });
      continue;
    }
    checks.push({ name: rule.name });
    try {
      await rule.check(subject);
    } catch (error) {
      if (!(error instanceof CfnError)) throw error;
      refusals.push(error);
    }
  }
  const [first] = refusals;
  if (first !== undefined) {
    throw new CfnError(first.code, refusals.map(({ message }) => message).join('; '), { cause: first });
  }
  skipped.push(...skippedEndorsements(policy), ...skippedGpuEndorsements(policy));
  const { workerKeys, workerKeysBytes } = subject;
  const result: Omit<AttestationResult, typeof appraised> = {
    tee: policy.tee.kind,
    simulated: policy.tee.kind === 'simulated',
    workerId: await workerId(workerKeysBytes),
    workerKeys,
    workerKeysBytes,
    evidenceDigest: await evidenceDigest(evidence),
    claims: collectClaims(subject),
    checks,
    skipped,
  };
  return result as AttestationResult; // the one mint: every rule passed
}

function parseCase(evidence: Evidence, { nonce, policy, now }: AppraiseOptions): Case {
  // Callers may hold evidence that only TypeScript vouches for; a relying party's last line asks once more.
  if (!evidenceSchema.safeParse(evidence).success)
    refuse('CFN_EVIDENCE_MALFORMED', 'evidence is not a cfn/evidence/v1 document');
  const workerKeysBytes = decode(evidence.workerKeys);
  const quote = parseTdxQuote(decode(evidence.quote));
  const [pckLeaf] = quote.pckChain;
  if (pckLeaf === undefined) refuse('CFN_EVIDENCE_MALFORMED', 'quote carries no PCK certificate');
  const gpus = evidence.gpus.map((gpu, index) => {
    const report = decode(gpu.report); // also when no GPU is required: report data covers it
    return 'notRequired' in policy.gpu ? undefined : parseGpu(gpu, report, index);
  });
  return {
    policy,
    nonce,
    now,
    evidence,
    evidenceNonce: decode(evidence.nonce),
    workerKeysBytes,
    workerKeys: parseWorkerKeys(workerKeysBytes),
    quote,
    pckLeaf,
    gpus: gpus.filter((gpu) => gpu !== undefined),
  };
}

function parseGpu({ arch, certificates }: Evidence['gpus'][number], report: Uint8Array, index: number): ParsedGpu {
  const chain = parsePemChain(certificates);
  const [leaf] = chain;
  if (leaf === undefined) refuse('CFN_EVIDENCE_MALFORMED', `GPU ${index} carries no certificate`);
  return { arch, report: parseGpuReport(report), chain, leaf, name: `GPU ${index}` };
}

function decode(text: string): Uint8Array {
  return fromBase64url(text, 'CFN_EVIDENCE_MALFORMED');
}

function requireNonce({ nonce, evidenceNonce }: Case): void {
  if (!equalBytes(nonce, evidenceNonce))
    refuse('CFN_NONCE_MISMATCH', 'evidence answers another nonce than the one sent');
}

function requireLiveKeys({ workerKeys, now }: Case): void {
  // Written so that an invalid date refuses.
  if (!(now.getTime() <= Date.parse(workerKeys.notAfter))) {
    refuse('CFN_WORKER_KEYS_EXPIRED', `worker keys are not valid after ${workerKeys.notAfter}`);
  }
}
