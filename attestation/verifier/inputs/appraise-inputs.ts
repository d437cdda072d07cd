import type { SnpClaims } from '../amd/claims.ts';
import { appraiseDocument } from '../appraisal/document.ts';
import type { BindingLevel } from '../binding.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { TinfoilCapture } from '../../evidence/tinfoil.ts';
import { sha256Hex, toHex, utf8 } from '../../../proto/index.ts';
import { Findings, type Finding } from '../findings.ts';
import type { TdxClaims } from '../intel/claims.ts';
import type { GpuClaims, SwitchClaims } from '../nvidia/claims.ts';
import { isSimulated, type AppraisalPolicy } from '../policy/policy.ts';
import type { EventLogClaims } from '../tpm/event-log.ts';
import type { TpmClaims } from '../appraisal/tpm.ts';
import type { NrasClaims } from '../tokens/nras.ts';
import { checkBinding } from './bind.ts';
import { appraiseLogs } from './event-logs.ts';
import { gather, type Gathered } from './gather.ts';
import { appraiseLone } from './lone.ts';
import type { InputKind } from './recognise.ts';
import { appraiseDevices } from './devices.ts';
import { appraiseParavisors } from './paravisors.ts';
import { appraiseTees } from './tees.ts';
import { appraiseTokens } from './tokens.ts';
import { appraiseTpms } from './tpms.ts';

export interface InputsOptions {
  readonly policy: AppraisalPolicy;
  /** What the relying party sent; without it freshness is not checked, and the result says so. */
  readonly nonce?: Uint8Array;
  readonly now: Date;
}

/** What the inputs say; plain JSON. Of refused evidence nothing proves it. */
export interface InputsClaims {
  /** True when nothing but one machine's own root vouches for the platform, or for its GPUs. */
  readonly simulated: boolean;
  readonly tdx: readonly TdxClaims[];
  readonly snp: readonly SnpClaims[];
  readonly gpus: readonly GpuClaims[];
  readonly switches: readonly SwitchClaims[];
  readonly tpm: readonly TpmClaims[];
  readonly tokens: readonly NrasClaims[];
  readonly eventLogs: readonly EventLogClaims[];
  /** Values that a recorded answer of a worker binds. */
  readonly captures: readonly CaptureClaims[];
}

/** Hexadecimal, 32 bytes each; `null` where there is no GPU. */
export interface CaptureClaims {
  readonly tlsKeyFingerprint: string;
  readonly hpkeKey: string;
  readonly nonce: string;
  readonly gpuEvidenceDigest: string | null;
}

export interface InputsAppraisal {
  /** Whether no check failed. */
  readonly accepted: boolean;
  /** Every check, in order: passed, failed with its reason, or left out and why. */
  readonly findings: readonly Finding[];
  readonly claims: InputsClaims;
  /** How CPU and GPU evidence hang together; `undefined` where there are not both. */
  readonly binding: { readonly level: BindingLevel; readonly detail: string } | undefined;
  /** Kind of each input, in the order given. */
  readonly inputs: readonly InputKind[];
}

/** What the parts of an appraisal share. */
export interface Part {
  readonly gathered: Gathered;
  readonly policy: AppraisalPolicy;
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly now: Date;
  readonly findings: Findings;
}

/**
 * Appraises evidence and endorsements in whatever form they come, told by their content, in any order.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when an input is of no known kind, or broken. Every other refusal is in the findings.
 */
export async function appraiseInputs(
  inputs: readonly Uint8Array[],
  { policy, nonce, now }: InputsOptions,
): Promise<InputsAppraisal> {
  const gathered = gather(inputs);
  const findings = new Findings();
  const part: Part = { gathered, policy, nonce: nonce ?? { notChecked: 'no nonce was given' }, now, findings };
  const [document] = gathered.documents;
  if (document !== undefined) return appraiseDocuments(part);
  if (nonce === undefined) findings.skip('freshness', 'no nonce was given');
  const tees = await appraiseTees(part);
  const devices = await appraiseDevices(part);
  const tpm = await appraiseTpms(part);
  await appraiseParavisors(part, tees);
  const tokens = await appraiseTokens(part, devices);
  const eventLogs = await appraiseLogs(part, tees, tpm);
  const binding = await checkBinding(part, tees, devices);
  await appraiseLone(part);
  const { leftAside } = gathered;
  if (leftAside.length > 0) findings.skip("provider's report", `not looked at: ${leftAside.join(', ').slice(0, 300)}`);
  return {
    accepted: findings.failures.length === 0,
    findings: findings.list,
    claims: {
      simulated: isSimulated(policy),
      tdx: tees.flatMap(({ tdx }) => tdx ?? []),
      snp: tees.flatMap(({ snp }) => snp ?? []),
      gpus: devices?.gpus ?? [],
      switches: devices?.switches ?? [],
      tpm: tpm.map(({ claims }) => claims),
      tokens,
      eventLogs,
      captures: await Promise.all(gathered.captures.map(captureClaims)),
    },
    binding,
    inputs: gathered.kinds,
  };
}

/** A document brings all that belongs to it; what lies beside it must not decide. */
async function appraiseDocuments({ gathered, policy, nonce, now, findings }: Part): Promise<InputsAppraisal> {
  const [evidence, ...more] = gathered.documents;
  if (evidence === undefined || more.length > 0 || gathered.kinds.length > 1)
    refuse('parse/unknown-input', 'an evidence document stands alone: it brings its endorsements');
  const claims = await appraiseDocument({ evidence, nonce, policy, now }, findings);
  const both = claims.gpus.length > 0;
  return {
    accepted: findings.failures.length === 0,
    findings: findings.list,
    claims: {
      simulated: isSimulated(policy),
      tdx: claims.tdx === undefined ? [] : [claims.tdx],
      snp: claims.snp === undefined ? [] : [claims.snp],
      gpus: claims.gpus,
      switches: claims.switches,
      tpm: [],
      tokens: [],
      eventLogs: [],
      captures: [],
    },
    binding: both ? { level: claims.binding, detail: 'cfn/report-data/v1' } : undefined,
    inputs: gathered.kinds,
  };
}

async function captureClaims({ tlsKeyFingerprint, hpkeKey, nonce, gpuText }: TinfoilCapture): Promise<CaptureClaims> {
  return {
    tlsKeyFingerprint: toHex(tlsKeyFingerprint),
    hpkeKey: toHex(hpkeKey),
    nonce: toHex(nonce),
    gpuEvidenceDigest: gpuText === undefined ? null : await sha256Hex(utf8(gpuText)),
  };
}
