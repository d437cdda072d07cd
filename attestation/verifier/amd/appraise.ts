import { equalBytes, toHex } from '../../../proto/index.ts';
import { refuse, type Reason } from '../../evidence/reasons.ts';
import type { FirmwareVersion, SnpReport } from '../../evidence/snp.ts';
import {
  GUEST_POLICY_FLAGS,
  PLATFORM_INFO_FLAGS,
  PLATFORM_INFO_KNOWN,
  type GuestPolicyFlag,
  type PlatformInfoFlag,
} from '../../evidence/snp-bits.ts';
import type { Findings } from '../findings.ts';
import type { ReferencesDemand, SnpDemands } from './demands.ts';
import { bit, listed, mitigations, rule, tcbMinimum, type SnpRule, type Subject } from './rules.ts';

/** Graver ones have a reason of their own. */
const POLICY_REASONS: Readonly<Partial<Record<GuestPolicyFlag, Reason>>> = {
  debug: 'policy/debug',
  migrationAgent: 'policy/migration',
};

/** The meaning of {@link SnpDemands}, field by field. */
const RULES: readonly SnpRule[] = [
  listed('product', 'products', 'policy/tee-kind', ({ product }) => product),
  listed('signing key', 'signers', 'policy/attributes', ({ report }) => report.signer),
  field('CHIP_ID', 'chipId', 'policy/attributes', ({ chipId }) => chipId),
  rule('cloud provider', 'cspId', requireProvider),

  ...GUEST_POLICY_FLAGS.map((flag) => {
    const reason = POLICY_REASONS[flag] ?? 'policy/attributes';
    return bit(`guest policy ${flag}`, (demands) => demands.guestPolicy[flag], reason, isPolicySet(flag));
  }),
  rule('guest policy ABI', 'guestPolicyAbiMin', requireAbi),
  ...PLATFORM_INFO_FLAGS.map((flag) =>
    bit(`platform info ${flag}`, (demands) => demands.platformInfo[flag], 'policy/platform-info', isPlatformSet(flag)),
  ),
  bit('platform info unknown bits', (demands) => demands.platformInfoUnknown, 'policy/platform-info', hasUnknownBits),
  listed('VMPL', 'vmpl', 'policy/vmpl', ({ report }) => report.vmpl),

  tcbMinimum('REPORTED_TCB', 'reportedTcbMin', (report) => report.reportedTcb),
  tcbMinimum('COMMITTED_TCB', 'committedTcbMin', (report) => report.committedTcb),
  tcbMinimum('LAUNCH_TCB', 'launchTcbMin', (report) => report.launchTcb),
  rule('provisional firmware', 'provisionalFirmware', requireCommitted),
  rule('committed firmware', 'firmwareMin', requireFirmware),
  mitigations('LAUNCH_MIT_VECTOR', 'launchMitigations'),
  mitigations('CURRENT_MIT_VECTOR', 'currentMitigations'),

  field('MEASUREMENT', 'measurement', 'policy/measurement', (report) => report.measurement),
  field('HOST_DATA', 'hostData', 'policy/measurement', (report) => report.hostData),
  field('FAMILY_ID', 'familyId', 'policy/measurement', (report) => report.familyId),
  field('IMAGE_ID', 'imageId', 'policy/measurement', (report) => report.imageId),
  field('ID_KEY_DIGEST', 'idKeyDigest', 'policy/measurement', (report) => report.idKeyDigest),
  field('AUTHOR_KEY_DIGEST', 'authorKeyDigest', 'policy/measurement', ({ authorKeyPresent, authorKeyDigest }) =>
    authorKeyPresent ? authorKeyDigest : undefined,
  ),
  field('REPORT_ID_MA', 'reportIdOfMigrationAgent', 'policy/migration', (report) => report.reportIdOfMigrationAgent),
  rule('GUEST_SVN', 'guestSvnMin', requireGuestSvn),
];

type Abi = Exclude<SnpDemands['guestPolicyAbiMin'], { notChecked: string }>;

/**
 * Compares a report with what is demanded of it; each demand becomes one finding. Means nothing for a report that
 * `verifySnpReport` did not find genuine.
 */
export async function appraiseSnpReport(subject: Subject, demands: SnpDemands, findings: Findings): Promise<void> {
  for (const apply of RULES) await apply(subject, demands, findings);
}

function field(
  name: string,
  demand: ReferencesField,
  reason: Reason,
  value: (report: SnpReport) => Uint8Array | undefined,
): SnpRule {
  return listed(name, demand, reason, ({ report }) => {
    const bytes = value(report);
    return bytes && toHex(bytes);
  });
}

type ReferencesField = {
  [Field in keyof SnpDemands]: SnpDemands[Field] extends ReferencesDemand ? Field : never;
}[keyof SnpDemands];

function isPolicySet(flag: GuestPolicyFlag): (report: SnpReport) => boolean {
  return ({ guestPolicy }) => guestPolicy.flags[flag];
}

function isPlatformSet(flag: PlatformInfoFlag): (report: SnpReport) => boolean {
  return ({ platformInfo }) => platformInfo.flags[flag];
}

function hasUnknownBits({ platformInfo }: SnpReport): boolean {
  return (platformInfo.bits & ~PLATFORM_INFO_KNOWN) !== 0n;
}

function requireProvider({ leaf }: Subject, providers: readonly string[]): void {
  if (leaf?.kind === 'VCEK') return; // the chip's own key: no provider holds it
  if (leaf?.cspId === undefined || !providers.includes(leaf.cspId))
    refuse('policy/attributes', `the VLEK is of ${leaf?.cspId ?? 'nobody known'}, who is not listed`);
}

function requireAbi({ report }: Subject, { major, minor }: Abi): void {
  const { abiMajor, abiMinor } = report.guestPolicy;
  if (abiMajor > major || (abiMajor === major && abiMinor >= minor)) return;
  refuse(
    'policy/minimum-version',
    `guest policy takes ABI ${abiMajor}.${abiMinor}, at least ${major}.${minor} is demanded`,
  );
}

function requireCommitted({ report }: Subject): void {
  const { currentTcb, committedTcb, currentFirmware, committedFirmware } = report;
  if (!equalBytes(currentTcb, committedTcb))
    refuse('tcb/provisional', `CURRENT_TCB ${toHex(currentTcb)} is not COMMITTED_TCB ${toHex(committedTcb)}`);
  if (isBelow(committedFirmware, currentFirmware) || isBelow(currentFirmware, committedFirmware))
    refuse('tcb/provisional', `firmware ${text(currentFirmware)} runs, ${text(committedFirmware)} is committed`);
}

function requireFirmware({ report: { committedFirmware } }: Subject, least: FirmwareVersion): void {
  if (isBelow(committedFirmware, least))
    refuse(
      'policy/minimum-version',
      `firmware ${text(committedFirmware)} is committed, at least ${text(least)} is demanded`,
    );
}

function requireGuestSvn({ report: { guestSvn } }: Subject, least: number): void {
  if (!(guestSvn >= least)) refuse('policy/minimum-version', `GUEST_SVN is ${guestSvn}, at least ${least} is demanded`);
}

function isBelow(version: FirmwareVersion, least: FirmwareVersion): boolean {
  if (version.major !== least.major) return version.major < least.major;
  if (version.minor !== least.minor) return version.minor < least.minor;
  return version.build < least.build;
}

function text({ major, minor, build }: FirmwareVersion): string {
  return `${major}.${minor}.${build}`;
}
