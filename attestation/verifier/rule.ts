import { toHex, type Evidence, type ErrorCode, CfnError, type WorkerKeys } from '../../proto/index.ts';
import type { GpuReport } from '../evidence/nvidia.ts';
import type { TdxQuote } from '../evidence/tdx.ts';
import type { Certificate } from '../evidence/x509.ts';
import type { AppraisalPolicy } from './policy.ts';

/** A GPU's evidence, parsed and not yet verified. */
export interface ParsedGpu {
  readonly arch: Evidence['gpus'][number]['arch'];
  readonly report: GpuReport;
  readonly chain: readonly Certificate[];
  readonly leaf: Certificate;
  /** Such as `GPU 0`. */
  readonly name: string;
}

/** What the rules look at: evidence parsed, nothing of it verified; expectations beside it. */
export interface Case {
  readonly policy: AppraisalPolicy;
  /** The relying party's nonce. Rules compare with this one, never with the evidence's own. */
  readonly nonce: Uint8Array;
  readonly now: Date;
  readonly evidence: Evidence;
  readonly evidenceNonce: Uint8Array;
  readonly workerKeysBytes: Uint8Array;
  readonly workerKeys: WorkerKeys;
  readonly quote: TdxQuote;
  readonly pckLeaf: Certificate;
  /** Empty when the policy requires no GPU. */
  readonly gpus: readonly ParsedGpu[];
}

/** One demand. `check` throws a CfnError to refuse. `skip` gives the policy's reason when the policy leaves it out. */
export interface Rule {
  readonly name: string;
  readonly skip?: (policy: AppraisalPolicy) => string | undefined;
  readonly check: (subject: Case) => Promise<void> | void;
}

type NotChecked = { readonly notChecked: string };

export function reasonOf(field: unknown): string | undefined {
  return isNotChecked(field) ? field.notChecked : undefined;
}

export function isNotChecked(field: unknown): field is NotChecked {
  return typeof field === 'object' && field !== null && 'notChecked' in field && typeof field.notChecked === 'string';
}

/** Refuses a value that is not in the list; the message shows the value, which is public. */
export function requireListed(value: Uint8Array | undefined, list: readonly string[], name: string): void {
  const came = value === undefined ? 'absent' : toHex(value);
  if (!list.includes(came)) refuse('CFN_MEASUREMENT_UNKNOWN', `${name} ${came} is not a reference value`);
}

export function refuse(code: ErrorCode, message: string): never {
  throw new CfnError(code, message);
}
