import type { Crl } from '../../evidence/crl.ts';
import type { NvidiaDevice } from '../../evidence/gpu-certificate.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import type { OcspResponse } from '../../evidence/ocsp.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { GoldenValue } from '../../evidence/rim.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { NVIDIA_DEVICE_ROOT, NVIDIA_RIM_ROOT } from '../trust-anchors.ts';
import {
  beginDevice,
  verifyDevice,
  type DeviceOptions,
  type DeviceVerification,
  type NvidiaDeviceEvidence,
} from './device.ts';
import { compareGolden, NVDEC0_INDEX, requireGolden, type GoldenClaims } from './golden.ts';
import { openRevocation, type RevocationOptions } from './revocation.ts';
import type { RimCache } from './rim-cache.ts';
import { chooseRims, explainGap, type RimGap } from './rim-choice.ts';
import { rimNeedsOf, tryReadDevice, type RimNeed } from './rim-id.ts';
import { beginRim, openRim, verifyRim, type SuppliedRim } from './rim.ts';

/** Most of each that one verification takes. The largest machines have 8 GPUs and 4 switches, with 2 RIMs each and 3 answers for each chain. */
const ITEMS_MAX = { devices: 32, rims: 64, revocation: 256 };

/** All of NVIDIA's devices in one machine, with what vouches for them. */
export interface NvidiaEvidence {
  readonly gpus: readonly NvidiaDeviceEvidence<GpuReport>[];
  readonly switches: readonly NvidiaDeviceEvidence<SwitchReport>[];
  /** Signed RIMs, XML, in any order; those that no device needs are left aside. */
  readonly rims: readonly Uint8Array[];
  /** OCSP responses and CRLs for device and RIM certificates. Each must answer for one of them. */
  readonly ocsp: readonly OcspResponse[];
  readonly crls: readonly Crl[];
  readonly revocation: RevocationOptions['demand'];
  /** Whether a certificate on hold counts as good; NVIDIA puts devices on hold while it looks into a report. */
  readonly holdTolerated?: boolean;
  /** What every report must answer: 32 bytes. */
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly now: Date;
  /** SHA-256 of the roots' DER, hexadecimal. The defaults are NVIDIA's. */
  readonly roots?: { readonly device: string; readonly rim: string };
  /** Keeps verified RIMs over calls. */
  readonly rimCache?: RimCache;
}

/** A device after {@link verifyNvidia}: genuine when the findings have no failure, and only then to be believed. */
export interface VerifiedDevice<Report> {
  readonly name: string;
  readonly report: Report;
  readonly chain: readonly Certificate[];
  /** `undefined` only after a failure. */
  readonly device: NvidiaDevice | undefined;
  /** Whether chain, product and signature hold. */
  readonly isAuthentic: boolean;
  /** RIMs that it needs and that are not there. Whether that matters is for the policy to say. */
  readonly gaps: readonly RimGap[];
  /** Names under which NVIDIA's RIM service has what it needs. */
  readonly rimIds: readonly string[];
  /** `undefined` when there was nothing to compare with, or no authentic report. */
  readonly golden: GoldenClaims | undefined;
}

export interface NvidiaVerification {
  readonly gpus: readonly VerifiedDevice<GpuReport>[];
  readonly switches: readonly VerifiedDevice<SwitchReport>[];
}

/**
 * Verifies that genuine GPUs and switches made the reports, now, and that their measurements are those that NVIDIA signed for their
 * versions (attestation-formats §4.4, steps 2 to 8). A RIM that is missing is no failure here: `appraiseNvidia` says what is
 * demanded of the result.
 *
 * @throws {Refusal} `parse/…` when a RIM cannot be parsed, or there is too much of something. All else becomes findings.
 */
export async function verifyNvidia(evidence: NvidiaEvidence, findings: Findings): Promise<NvidiaVerification> {
  requireBounded(evidence);
  const roots = evidence.roots ?? { device: NVIDIA_DEVICE_ROOT, rim: NVIDIA_RIM_ROOT };
  const options: DeviceOptions = { nonce: evidence.nonce, now: evidence.now, root: roots.device };
  // Signatures take long and wait for nothing: all of them are begun first.
  const gpus = evidence.gpus.map((gpu) => ({ begun: beginDevice(gpu, options), needs: rimNeedsOf(gpu) }));
  const switches = evidence.switches.map((item) => ({ begun: beginDevice(item, options), needs: rimNeedsOf(item) }));
  const supplied = await Promise.all(evidence.rims.map((bytes) => openRim(bytes, roots.rim, evidence.rimCache)));
  const needs = [...gpus, ...switches].flatMap((device) => device.needs);
  const chosen = new Set(needs.flatMap((need) => chooseRims(need, supplied)));
  const rims = [...chosen].map((rim) => beginRim(rim, roots.rim));

  const { revocation: demand, holdTolerated = false } = evidence;
  const revocation = openRevocation({ ...evidence, demand, holdTolerated });
  const authentic = new Set<unknown>();
  for (const { begun } of [...gpus, ...switches]) {
    if (await verifyDevice(begun, options, findings)) authentic.add(begun);
    await revocation.check(begun.evidence.chain, 1, begun.evidence.name, findings);
  }
  const genuine = new Set<SuppliedRim>();
  for (const rim of rims) {
    if (await verifyRim(rim, evidence.now, evidence.rimCache, findings)) genuine.add(rim.supplied);
    await revocation.check(rim.supplied.rim.signature.certificates, 0, rim.supplied.what, findings);
  }
  for (const { what } of supplied.filter((rim) => !chosen.has(rim))) findings.skip(what, 'no device here needs it');
  await revocation.finish(findings);

  const finish = <Report extends GpuReport | SwitchReport>(device: Begun<Report>): Promise<VerifiedDevice<Report>> =>
    finishDevice(device, authentic.has(device.begun), { supplied, genuine }, findings);
  return { gpus: await inOrder(gpus, finish), switches: await inOrder(switches, finish) };
}

function requireBounded({ gpus, switches, rims, ocsp, crls }: NvidiaEvidence): void {
  const counts = { devices: gpus.length + switches.length, rims: rims.length, revocation: ocsp.length + crls.length };
  for (const what of ['devices', 'rims', 'revocation'] as const)
    if (counts[what] > ITEMS_MAX[what])
      refuse('parse/length', `${counts[what]} ${what}, at most ${ITEMS_MAX[what]} are taken`);
}

interface Begun<Report> {
  readonly begun: DeviceVerification<Report>;
  readonly needs: readonly RimNeed[];
}

/** Findings keep the order of the devices. */
async function inOrder<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await run(item));
  return results;
}

async function finishDevice<Report extends GpuReport | SwitchReport>(
  { begun: { evidence }, needs }: Begun<Report>,
  isAuthentic: boolean,
  rims: { readonly supplied: readonly SuppliedRim[]; readonly genuine: ReadonlySet<SuppliedRim> },
  findings: Findings,
): Promise<VerifiedDevice<Report>> {
  const { name, report, chain } = evidence;
  const sources: (readonly GoldenValue[])[] = [];
  const gaps: RimGap[] = [];
  for (const need of needs) {
    const candidates = chooseRims(need, rims.supplied);
    if (candidates.length === 0) gaps.push(explainGap(need, rims.supplied));
    const source = bestOf(
      candidates.filter((rim) => rims.genuine.has(rim)),
      report,
    );
    if (source !== undefined) sources.push(source.rim.values);
  }
  const skip = report.kind === 'gpu' && report.nvdec0 === 'off' ? new Set([NVDEC0_INDEX]) : new Set<number>();
  let golden: GoldenClaims | undefined;
  if (!isAuthentic) findings.skip(`${name} measurements`, 'the report is not authentic');
  else if (sources.length === 0) findings.skip(`${name} measurements`, 'there is no genuine RIM to compare with');
  else {
    golden = compareGolden(report.measurements, sources, skip);
    await requireGolden(golden, name, findings);
  }
  const rimIds = needs.flatMap(({ id }) => id ?? []);
  return { name, report, chain, device: tryReadDevice(chain), isAuthentic, rimIds, gaps, golden };
}

/** Of RIMs for one version, the one that the device agrees with; else any, whose mismatches are then listed. */
function bestOf(rims: readonly SuppliedRim[], report: GpuReport | SwitchReport): SuppliedRim | undefined {
  const agrees = ({ rim }: SuppliedRim): boolean => {
    const { compared, matching } = compareGolden(report.measurements, [rim.values]);
    return compared === matching;
  };
  return rims.length > 1 ? (rims.find(agrees) ?? rims[0]) : rims[0];
}
