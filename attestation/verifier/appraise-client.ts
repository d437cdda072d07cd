import {
  equalBytes,
  fromBase64url,
  kbsDeviceNonce,
  kbsReportData,
  mergeEndorsements,
  NO_ENDORSEMENTS,
  sha256Hex,
  frame,
  toBase64url,
  utf8,
  type Endorsements,
  type Evidence,
  type KbsBinding,
} from '../../proto/index.ts';
import { parseCertificate } from '../evidence/x509.ts';
import { parseCocoEvidence, type CocoEvidence } from '../evidence/coco.ts';
import { refuse } from '../evidence/reasons.ts';
import {
  appraiseGpus,
  appraiseTee,
  checkAbsent,
  checkLevel,
  parseDevices,
  requireKind,
  type EvidenceParts,
} from './appraisal/document.ts';
import { appraiseSnpClaims } from './appraisal/snp.ts';
import { AppraisalRefused, type Claims } from './appraise.ts';
import { bindingLevel, requireReportData } from './binding.ts';
import { Findings, type Finding } from './findings.ts';
import { isSimulated, requireWorkerPolicy, type AppraisalPolicy } from './policy/policy.ts';
import { kbsBinding, type ReportDataBinding } from './report-data.ts';

declare const appraised: unique symbol;

/** Certificates of a client that are looked at: with what is fetched beside them, as many as a document takes. */
const CERTIFICATES_MAX = 6;

/** What a client of the key broker protocol sent. */
export interface ClientAttestation {
  /** As the client says. */
  readonly tee: string;
  readonly primary: unknown;
  readonly additional: string;
  readonly binding: KbsBinding;
}

/** Proof that a client's evidence passed appraisal, and binds its key. Only {@link appraiseClient} makes one. */
export interface ClientResult {
  readonly [appraised]: true;
  /** `sample`: nobody signed it, and it proves nothing; only a simulated policy lets it through. */
  readonly tee: Evidence['tee'] | 'sample';
  readonly claims: Claims;
  /** SHA-256 over the evidence, hexadecimal. */
  readonly evidenceDigest: string;
  readonly findings: readonly Finding[];
}

export interface ClientOptions {
  readonly policy: AppraisalPolicy;
  readonly now: Date;
  /** These clients bring hardly any endorsements: asked for the vendor's, once nothing else is wrong with the evidence. */
  readonly endorse: (evidence: EndorsedEvidence, brought: Endorsements) => Promise<Endorsements>;
}

/** What endorsements are wanted for. */
type EndorsedEvidence = Pick<Evidence, 'tee' | 'gpus' | 'switches'> & { readonly quote: Uint8Array };

/**
 * Appraises what an attester of Confidential Containers collected, under a policy for workers. Nonce and key are bound through report
 * data alone: whatever the client says of them elsewhere counts for nothing.
 *
 * @throws {AppraisalRefused} with all the reasons
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`, `CFN_TEE_REFUSED`, `CFN_POLICY_INVALID`, what `endorse` throws
 */
export async function appraiseClient(client: ClientAttestation, options: ClientOptions): Promise<ClientResult> {
  const { policy } = options;
  requireWorkerPolicy(policy);
  const evidence = parseCocoEvidence(client.tee, client.primary, client.additional);
  const findings = new Findings();
  const claims =
    evidence.tee === 'sample'
      ? await appraiseSample(evidence.sampleReportData, client, policy, findings)
      : await appraiseSigned({ ...evidence, tee: evidence.tee }, client, options, findings);
  const [first] = findings.failures;
  if (first !== undefined) throw new AppraisalRefused(first, findings.list);
  const parts = [client.tee, JSON.stringify(client.primary), client.additional].map(utf8);
  const result: Omit<ClientResult, typeof appraised> = {
    tee: evidence.tee,
    claims,
    evidenceDigest: await sha256Hex(frame('cfn/kbs-evidence/v1', ...parts)),
    findings: findings.list,
  };
  return result as ClientResult; // the one mint: no check failed
}

async function appraiseSigned(
  { quote, gpus, switches, certificates, tee }: CocoEvidence & { readonly tee: Evidence['tee'] },
  client: ClientAttestation,
  { policy, now, endorse }: ClientOptions,
  findings: Findings,
): Promise<Claims> {
  const none = { tdx: undefined, snp: undefined, gpus: [], switches: [] } as const;
  const named = { tee, gpus, ...(switches.length > 0 && { switches }) };
  const evidence = { ...named, quote: toBase64url(quote), endorsements: NO_ENDORSEMENTS };
  // Before vendors are asked for anything.
  if (!(await findings.check('TEE kind', () => requireKind({ evidence, policy })))) return none;
  const amd = { certificates: certificates.slice(0, CERTIFICATES_MAX).map(toBase64url), crls: [] };
  const brought: Endorsements = { ...NO_ENDORSEMENTS, amd };
  const expected = await kbsBinding(client.binding, client.additional);
  const early = { evidence: { ...evidence, endorsements: brought }, policy, now };
  if (!(await isWorthEndorsing(early, expected, findings))) return none;
  const endorsements = mergeEndorsements(await endorse({ ...named, quote }, brought), brought);
  const parts: EvidenceParts = { evidence: { ...evidence, endorsements }, policy, now };
  const { reportData, ...claims } = await appraiseTee(parts, findings);
  const devices = parseDevices(parts);
  const gpuNonce = await kbsDeviceNonce(client.binding);
  const gpuNonces = devices.map(({ report }) => report.nonce);
  const level = await bindingLevel({ reportData, expected, gpuNonce, gpuNonces }, findings);
  const nvidia = await appraiseGpus(parts, devices, gpuNonce, findings);
  await checkLevel(policy, level, findings);
  await checkAbsent(policy, findings);
  return { ...claims, gpus: nvidia.gpus, switches: nvidia.switches };
}

/**
 * Anybody can send evidence, and must not have us ask vendors for it: all that needs nothing of theirs is looked at first, so that of TDX
 * only a genuine quote of an image that is accepted goes on. Of SEV-SNP the chip's certificate itself may have to be fetched; where it came,
 * the report must be signed by it.
 */
async function isWorthEndorsing(
  parts: EvidenceParts,
  expected: ReportDataBinding,
  findings: Findings,
): Promise<boolean> {
  const { policy, evidence } = parts;
  if (policy.tee.kind === 'simulated') return true; // no vendor knows it
  const early = new Findings();
  let reportData: Uint8Array;
  if (policy.tee.kind === 'snp') {
    const { amd } = evidence.endorsements;
    const certificates = amd.certificates.map((der) => parseCertificate(fromBase64url(der, 'CFN_EVIDENCE_MALFORMED')));
    const report = fromBase64url(evidence.quote, 'CFN_EVIDENCE_MALFORMED');
    ({ reportData } = await appraiseSnpClaims({ report, certificates, policy: policy.tee }, early));
  } else {
    const collateral = { notChecked: 'not asked for yet' };
    const tee = policy.tee.kind === 'tdx' ? { ...policy.tee, collateral } : policy.tee;
    ({ reportData } = await appraiseTee({ ...parts, policy: { ...policy, tee } }, early));
  }
  await early.check('binding: report data', () => requireReportData(reportData, expected));
  if (early.failures.length === 0) return true;
  findings.add(early.list);
  return false;
}

/** Anybody can write it; that it says what was asked is all there is to check. */
async function appraiseSample(
  stated: Uint8Array = new Uint8Array(),
  { binding, additional }: ClientAttestation,
  policy: AppraisalPolicy,
  findings: Findings,
): Promise<Claims> {
  await findings.check('TEE kind', () => {
    if (!isSimulated(policy))
      refuse('policy/tee-kind', 'nobody signed the evidence, and the policy accepts no simulated one');
  });
  const expected = await kbsReportData(binding, additional);
  await findings.check('binding: report data', () => {
    const rest = expected.subarray(stated.length);
    const isBound = stated.length >= 32 && equalBytes(stated, expected.subarray(0, stated.length));
    if (!isBound || rest.some((byte) => byte !== 0))
      refuse('binding/report-data', 'the sample evidence is for something else');
  });
  return { tdx: undefined, snp: undefined, gpus: [], switches: [] };
}
