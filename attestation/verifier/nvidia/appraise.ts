import { toHex } from '../../../proto/index.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { GoldenValue } from '../../evidence/rim.ts';
import type { Findings } from '../findings.ts';
import type { GpuDemands, SwitchDemands, VersionDemand } from './demands.ts';
import { compareGolden, requireGolden } from './golden.ts';
import { readMode } from './mode.ts';
import { appraiseTopology } from './topology.ts';
import type { NvidiaVerification, VerifiedDevice } from './verify.ts';
import { compareVersions } from './version.ts';

const VALUE_BYTES = 48;

/**
 * Compares verified GPUs, and the switches they are behind, with what is demanded (attestation-formats §4.4, step 9). Only after
 * `verifyNvidia`, with the same findings.
 */
export async function appraiseGpus(
  { gpus, switches }: NvidiaVerification,
  demands: GpuDemands,
  findings: Findings,
): Promise<void> {
  await findings.check('GPU count', () => requireCount(gpus.length, demands));
  if (gpus.length > 0) {
    await findings.check('GPU identities', () => requireDistinct(gpus));
    await findings.check('GPU family', () => requireOneFamily(gpus));
  }
  for (const gpu of gpus) {
    const { name, report } = gpu;
    await findings.check(`${name} architecture`, () => requireArchitecture(gpu, demands));
    await appraiseVersion(`${name} driver version`, report.driverVersion, demands.driver, 10, findings);
    await appraiseVersion(`${name} VBIOS version`, report.vbiosVersion, demands.vbios, 16, findings);
    await appraiseFirmwareId(gpu, demands.firmwareId, findings);
    await appraiseMode(gpu, demands.modes, findings);
    await appraiseMeasurements(gpu, demands.measurements, findings);
  }
  const forSwitches = demands.measurements;
  await appraiseSwitches(
    switches,
    { measurements: typeof forSwitches === 'object' && 'values' in forSwitches ? 'rims' : forSwitches },
    findings,
  );
  await appraiseTopology({ gpus, switches }, demands.switches, findings);
}

/** Compares verified switches with what is demanded of each by itself. */
export async function appraiseSwitches(
  switches: readonly VerifiedDevice<SwitchReport>[],
  { measurements }: SwitchDemands,
  findings: Findings,
): Promise<void> {
  if (switches.length > 0) await findings.check('switch identities', () => requireDistinct(switches));
  for (const device of switches) await appraiseMeasurements(device, measurements, findings);
}

function requireCount(count: number, { countMin, countMax }: GpuDemands): void {
  // Written so that a bound that is no number refuses.
  if (!(count >= countMin && count <= countMax))
    refuse('policy/gpu-count', `evidence has ${count} GPUs, the policy demands ${countMin} to ${countMax}`);
}

/** One device must not be counted twice: neither with one leaf, nor with two leaves that it made. */
function requireDistinct(devices: readonly VerifiedDevice<GpuReport | SwitchReport>[]): void {
  const keys = new Set(devices.map(({ chain: [leaf] }) => toHex(leaf?.publicKey.spki ?? new Uint8Array())));
  const issuers = new Set(devices.map(({ chain: [, rom] }) => toHex(rom?.publicKey.spki ?? new Uint8Array())));
  if (keys.size !== devices.length || issuers.size !== devices.length)
    refuse('policy/gpu-duplicate', `${devices.length} reports are of ${Math.min(keys.size, issuers.size)} devices`);
}

function requireOneFamily(gpus: readonly VerifiedDevice<GpuReport>[]): void {
  const chips = [...new Set(gpus.map(({ device }) => device?.chip ?? 'unknown'))];
  if (chips.length > 1) refuse('policy/gpu-family', `GPUs are of several chips: ${chips.join(', ')}`);
}

function requireArchitecture({ name, device }: VerifiedDevice<GpuReport>, { architectures }: GpuDemands): void {
  if (!architectures.some((architecture) => architecture === device?.family))
    refuse('policy/gpu-family', `${name} is ${device?.family ?? 'unknown'}, accepted: ${architectures.join(', ')}`);
}

async function appraiseVersion(
  check: string,
  version: string | undefined,
  demand: VersionDemand,
  base: 10 | 16,
  findings: Findings,
): Promise<void> {
  if ('notChecked' in demand) return findings.skip(check, demand.notChecked);
  await findings.check(check, () => {
    const came = version ?? 'not reported';
    if ('oneOf' in demand) {
      if (!demand.oneOf.some((item) => item.toLowerCase() === version?.toLowerCase()))
        refuse('policy/minimum-version', `${check}: ${came}, accepted: ${demand.oneOf.join(', ')}`);
    } else if (!((compareVersions(version ?? '', demand.minimum, base) ?? -1) >= 0)) {
      refuse('policy/minimum-version', `${check}: ${came}, at least ${demand.minimum} is demanded`);
    }
  });
}

async function appraiseFirmwareId(
  { name, report }: VerifiedDevice<GpuReport>,
  demand: GpuDemands['firmwareId'],
  findings: Findings,
): Promise<void> {
  if (report.fwid !== undefined) return; // compared by verifyNvidia
  const check = `${name} firmware id`;
  if (demand !== 'required') return findings.skip(check, demand.whenReported);
  await findings.check(check, () => refuse('evidence/fwid-unavailable', `${name} does not report its firmware id`));
}

async function appraiseMode(
  { name, report }: VerifiedDevice<GpuReport>,
  demand: GpuDemands['modes'],
  findings: Findings,
): Promise<void> {
  await findings.check(`${name} mode`, () => {
    const mode = readMode(report, name);
    if (!('notChecked' in demand) && !demand.includes(mode))
      refuse('policy/gpu-mode', `${name} is in mode ${mode}, accepted: ${demand.join(', ')}`);
  });
  if ('notChecked' in demand) findings.skip(`${name} accepted modes`, demand.notChecked);
}

async function appraiseMeasurements(
  { name, report, isAuthentic, gaps, golden }: VerifiedDevice<GpuReport | SwitchReport>,
  demand: GpuDemands['measurements'],
  findings: Findings,
): Promise<void> {
  const ofRims =
    golden !== undefined && gaps.length === 0 && golden.matching === golden.compared && golden.conflicting.length === 0;
  let isKnown = ofRims;
  if (demand === 'rims') {
    for (const { kind, reason, detail } of gaps)
      await findings.check(`${name} ${kind} RIM`, () => refuse(reason, `${name}: ${detail}`));
  } else {
    for (const { kind, detail } of gaps)
      findings.skip(
        `${name} ${kind} RIM`,
        'notChecked' in demand ? `${detail}; ${demand.notChecked}` : `${detail}; the policy has values of its own`,
      );
    if ('values' in demand) {
      if (isAuthentic)
        isKnown = await requireGolden(
          compareGolden(report.measurements, [ownValues(demand.values)]),
          `${name} (policy's values)`,
          findings,
        );
      else findings.skip(`${name} (policy's values) measurements`, 'the report is not authentic');
    }
  }
  const debug = `${name} debug off`;
  if (isKnown) await findings.check(debug, () => undefined);
  else findings.skip(debug, 'follows from matching reference values alone');
}

function ownValues(values: Readonly<Record<string, readonly string[]>>): GoldenValue[] {
  return Object.entries(values).map(([index, alternatives]) => ({
    index: Number(index),
    name: 'policy',
    active: true,
    size: VALUE_BYTES,
    alternatives,
  }));
}
