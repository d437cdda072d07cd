import {
  devicesOf,
  equalBytes,
  evidenceSchema,
  fromBase64url,
  gpuNonce,
  NO_WORKER_KEYS,
  parseWorkerKeys,
  utf8,
  type Evidence,
  type EvidenceDevice,
  type WorkerKeys,
} from '../../../proto/index.ts';
import { parseCrl } from '../../evidence/crl.ts';
import { writeIntelCollateral } from '../../evidence/intel-collateral.ts';
import type { NvidiaDevice } from '../../evidence/gpu-certificate.ts';
import { parseNvidiaReport } from '../../evidence/nvidia.ts';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { parseCertificate, parsePemChain } from '../../evidence/x509.ts';
import type { SnpClaims } from '../amd/claims.ts';
import { bindingLevel, requireLevel, type BindingLevel } from '../binding.ts';
import type { Findings } from '../findings.ts';
import type { TdxClaims } from '../intel/claims.ts';
import type { AppraisalPolicy } from '../policy/policy.ts';
import { cfnBinding } from '../report-data.ts';
import { appraiseNvidia, type DeviceInput, type NvidiaClaims } from './gpus.ts';
import { appraiseSnp } from './snp.ts';
import { appraiseTd } from './td.ts';

export interface DocumentInput {
  readonly evidence: Evidence;
  /** What the relying party sent. */
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly policy: AppraisalPolicy;
  readonly now: Date;
}

/** What of a document is looked at by itself, whatever binds it together. */
export interface EvidenceParts extends Pick<DocumentInput, 'policy' | 'now'> {
  readonly evidence: Pick<Evidence, 'tee' | 'quote' | 'gpus' | 'switches' | 'endorsements'>;
}

export interface DocumentClaims extends NvidiaClaims {
  readonly tdx: TdxClaims | undefined;
  readonly snp: SnpClaims | undefined;
  readonly binding: BindingLevel;
  /** `undefined` when the document is for no worker. */
  readonly workerKeys: WorkerKeys | undefined;
  readonly workerKeysBytes: Uint8Array;
}

/**
 * Verifies an evidence document with the endorsements that it brings, and compares it with the policy. Nothing binds the endorsements,
 * so each is believed for its vendor's signature alone.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when a part of it cannot be parsed; all else is in the findings
 */
export async function appraiseDocument(input: DocumentInput, findings: Findings): Promise<DocumentClaims> {
  const { evidence, policy } = input;
  // Callers may hold evidence that only TypeScript vouches for; a relying party's last line asks once more.
  if (!evidenceSchema.safeParse(evidence).success) refuse('parse/json', 'evidence is not a cfn/evidence/v1 document');
  const nonce = decode(evidence.nonce);
  const workerKeysBytes = decode(evidence.workerKeys);
  const workerKeys = keysOf(workerKeysBytes);
  const none = { tdx: undefined, snp: undefined, gpus: [], switches: [], binding: 'none' } as const;
  const isKind = await findings.check('TEE kind', () => requireKind(input));
  if (!isKind) return { ...none, workerKeys, workerKeysBytes };
  await checkNonce(input, nonce, findings);
  const { reportData, ...tee } = await appraiseTee(input, findings);
  if (workerKeys === undefined) findings.skip('worker keys', 'the evidence is for no worker');
  else await findings.check('worker keys', () => requireLiveKeys(workerKeys, input.now));
  const devices = parseDevices(input);
  const gpuChallenge = await gpuNonce(nonce, workerKeysBytes);
  const expected = await cfnBinding(nonce, workerKeysBytes, devicesOf(evidence));
  const gpuNonces = devices.map(({ report }) => report.nonce);
  const binding = await bindingLevel({ reportData, expected, gpuNonce: gpuChallenge, gpuNonces }, findings);
  const { gpus, switches } = await appraiseGpus(input, devices, gpuChallenge, findings);
  await checkLevel(policy, binding, findings);
  await checkAbsent(policy, findings);
  return { ...tee, gpus, switches, binding, workerKeys, workerKeysBytes };
}

export async function checkLevel(
  { binding: least }: AppraisalPolicy,
  level: BindingLevel,
  findings: Findings,
): Promise<void> {
  if (typeof least === 'object') findings.skip('binding: level', least.notRequired);
  else await findings.check('binding: level', () => requireLevel(level, least));
}

/** A document has no place for these: a policy that demands one is not met. */
export async function checkAbsent({ tpm, token }: AppraisalPolicy, findings: Findings): Promise<void> {
  for (const [name, demand] of [
    ['TPM', tpm],
    ['NRAS token', token],
  ] as const) {
    if ('notRequired' in demand) findings.skip(name, demand.notRequired);
    else await findings.check(name, () => refuse('collateral/missing', 'an evidence document brings none'));
  }
}

export function requireKind({ evidence, policy }: Pick<EvidenceParts, 'evidence' | 'policy'>): void {
  if (evidence.tee !== policy.tee.kind)
    refuse('policy/tee-kind', `evidence is of kind ${evidence.tee}, the policy accepts ${policy.tee.kind} only`);
}

async function checkNonce({ nonce }: DocumentInput, own: Uint8Array, findings: Findings): Promise<void> {
  if ('notChecked' in nonce) return findings.skip('nonce', nonce.notChecked);
  await findings.check('nonce', () => {
    if (nonce.length === 0) refuse('binding/nonce-empty', 'no nonce is expected, so any answer would do');
    if (!equalBytes(nonce, own)) refuse('binding/nonce-mismatch', 'evidence answers another nonce than the one sent');
  });
}

export async function appraiseTee(
  { evidence, policy: { tee }, now }: EvidenceParts,
  findings: Findings,
): Promise<Pick<DocumentClaims, 'tdx' | 'snp'> & { reportData: Uint8Array }> {
  const { intel, amd } = evidence.endorsements;
  const bytes = decode(evidence.quote);
  if (tee.kind === 'none') throw new TypeError('evidence is never of kind none');
  if (tee.kind === 'snp') {
    const { reportData } = parseSnpReport(bytes);
    const certificates = amd.certificates.map((der) => parseCertificate(decode(der)));
    const crls = amd.crls.map((der) => parseCrl(decode(der)));
    const snp = await appraiseSnp({ report: bytes, certificates, crls, policy: tee, now }, findings);
    return { snp, tdx: undefined, reportData };
  }
  const quote = parseTdxQuote(bytes);
  const collateral = intel.map(({ pckCrl, rootCrl, ...parts }) =>
    writeIntelCollateral({ ...parts, pckCrl: decode(pckCrl), rootCaCrl: decode(rootCrl) }),
  );
  const tdx = await appraiseTd({ quote, policy: tee, collateral, now }, findings);
  return { tdx, snp: undefined, reportData: quote.report.reportData };
}

/** Empty when the policy asks for no GPU; report data covers their evidence all the same. */
export function parseDevices({ evidence, policy: { gpu } }: EvidenceParts): DeviceInput[] {
  if ('notRequired' in gpu) return [];
  return devicesOf(evidence).map(({ report, certificates }) => ({
    report: parseNvidiaReport(decode(report)),
    chain: parsePemChain(certificates),
  }));
}

export async function appraiseGpus(
  { evidence, policy: { gpu }, now }: EvidenceParts,
  devices: readonly DeviceInput[],
  nonce: Uint8Array,
  findings: Findings,
): Promise<NvidiaClaims> {
  if ('notRequired' in gpu) {
    findings.skip('GPUs', gpu.notRequired);
    return { gpus: [], switches: [] };
  }
  const { rims, ocsp, crls } = evidence.endorsements.nvidia;
  const appraised = await appraiseNvidia(
    {
      devices,
      rims: rims.map((text) => utf8(text)),
      ocsp: ocsp.map((der) => parseOcspResponse(decode(der))),
      crls: crls.map((der) => parseCrl(decode(der))),
      policy: gpu,
      nonce,
      now,
    },
    findings,
  );
  const { gpus, switches } = appraised.verification;
  await findings.check('GPU architectures as named', () => {
    requireAsNamed('GPU', evidence.gpus, gpus);
    requireAsNamed('switch', evidence.switches ?? [], switches);
  });
  return appraised;
}

/** A switch must not stand among the GPUs, nor the other way round. */
function requireAsNamed(
  what: string,
  named: readonly EvidenceDevice[],
  verified: readonly { readonly device: NvidiaDevice | undefined }[],
): void {
  if (named.length !== verified.length)
    refuse('policy/gpu-family', `${named.length} are named ${what}, ${verified.length} reports are of one`);
  for (const [index, { arch }] of named.entries()) {
    const family = verified[index]?.device?.family;
    if (arch !== family)
      refuse('policy/gpu-family', `${what} ${index} says ${arch}, its certificate ${family ?? 'none that we know'}`);
  }
}

function keysOf(bytes: Uint8Array): WorkerKeys | undefined {
  return equalBytes(bytes, NO_WORKER_KEYS) ? undefined : parseWorkerKeys(bytes);
}

function requireLiveKeys({ notAfter }: WorkerKeys, now: Date): void {
  // Written so that an invalid date refuses.
  if (!(now.getTime() <= Date.parse(notAfter)))
    refuse('binding/keys-expired', `worker keys are not valid after ${notAfter}`);
}

function decode(text: string): Uint8Array {
  return fromBase64url(text, 'CFN_EVIDENCE_MALFORMED');
}
