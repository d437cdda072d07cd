import { beforeAll, describe, expect, test } from 'vitest';
import { parseAmdLeaf } from '../../evidence/amd-certificate.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import { appraiseSnpReport } from './appraise.ts';
import type { SnpDemands } from './demands.ts';
import type { Subject } from './rules.ts';
import { DEFAULT_DEMANDS, readVector } from './vectors.fixture.ts';

/**
 * A real v5 report of Milan: policy 0x30000 (SMT), platform info 0x25 (SMT, ECC, alias check), VMPL 1, TCB 4/0/27/222 in all four,
 * firmware 1.55.35, mitigations 0x0b.
 */
let milan: Subject;
/** A real v3 report of Milan under a VLEK: CURRENT_TCB 0xdc, COMMITTED_TCB 0xdb. */
let vlek: Subject;
/** A real v2 report with debugging allowed. */
let debug: Subject;

beforeAll(() => {
  const subject = (report: string, certificate: string): Subject => {
    const leaf = parseAmdLeaf(parseCertificate(readVector(`certs/${certificate}.der`)));
    return { report: parseSnpReport(readVector(`reports/${report}.bin`)), product: 'Milan', leaf };
  };
  milan = subject('milan-v5-gcp-x25519', 'milan-v5-gcp-x25519.vcek');
  vlek = subject('milan-v3-vlek-trustee', 'milan-v3-vlek-trustee.vlek');
  debug = subject('milan-v2-goguest', 'milan-v2-goguest.vcek');
});

async function refusals(subject: Subject, demands: Partial<SnpDemands>) {
  const findings = new Findings();
  await appraiseSnpReport(subject, { ...DEFAULT_DEMANDS, ...demands }, findings);
  return findings.failures.map(({ reason, check }) => [reason, check]);
}

const guestPolicy = (demand: Partial<SnpDemands['guestPolicy']>) => ({
  guestPolicy: { ...DEFAULT_DEMANDS.guestPolicy, ...demand },
});
const platformInfo = (demand: Partial<SnpDemands['platformInfo']>) => ({
  platformInfo: { ...DEFAULT_DEMANDS.platformInfo, ...demand },
});
const MEASUREMENT = 'b747d55452e0b9e9079770a49e397c5e6d9573581e246da7baac4f28b5cdc5b1b6d19251b8ee600fd16a3708f58406f3';
const none = '00';
const floor = { bootloader: 4, tee: 0, snp: 27, microcode: 222 };

test.each<[string, Partial<SnpDemands>]>([
  ['products', { products: ['Genoa', 'Milan'] }],
  ['signers', { signers: ['VCEK'] }],
  [
    'guest policy',
    guestPolicy({ smt: 'required', cxl: 'forbidden', singleSocket: 'forbidden', pageSwapOff: 'forbidden' }),
  ],
  [
    'platform info',
    platformInfo({ smt: 'required', ecc: 'required', aliasCheckComplete: 'required', tsme: 'forbidden' }),
  ],
  ['unknown platform bits', { platformInfoUnknown: 'forbidden' }],
  ['ABI', { guestPolicyAbiMin: { major: 0, minor: 0 } }],
  ['VMPL', { vmpl: [0, 1] }],
  ['TCB', { reportedTcbMin: { Milan: floor }, committedTcbMin: { Milan: floor }, launchTcbMin: { Milan: floor } }],
  ['committed firmware', { provisionalFirmware: 'forbidden', firmwareMin: { major: 1, minor: 55, build: 35 } }],
  ['mitigations', { launchMitigations: '000000000000000b', currentMitigations: '0000000000000003' }],
  ['measurement', { measurement: [none.repeat(48), MEASUREMENT] }],
  ['zero fields', { hostData: [none.repeat(32)], familyId: [none.repeat(16)], imageId: [none.repeat(16)] }],
  ['no migration agent', { reportIdOfMigrationAgent: ['ff'.repeat(32)] }],
  ['guest SVN', { guestSvnMin: 0 }],
  ['no provider asked of a VCEK', { cspId: [] }],
])('meets: %s', async (_, demands) => {
  expect(await refusals(milan, demands)).toEqual([]);
});

describe('refuses', () => {
  test.each<[string, Partial<SnpDemands>, string]>([
    ['policy/tee-kind', { products: ['Genoa', 'Turin'] }, 'product'],
    ['policy/attributes', { signers: ['VLEK'] }, 'signing key'],
    ['policy/attributes', { signers: [] }, 'signing key'],
    ['policy/attributes', { chipId: [none.repeat(64)] }, 'CHIP_ID'],
    ['policy/attributes', guestPolicy({ smt: 'forbidden' }), 'guest policy smt'],
    ['policy/migration', guestPolicy({ migrationAgent: 'required' }), 'guest policy migrationAgent'],
    ['policy/attributes', guestPolicy({ singleSocket: 'required' }), 'guest policy singleSocket'],
    ['policy/attributes', guestPolicy({ cxl: 'required' }), 'guest policy cxl'],
    ['policy/attributes', guestPolicy({ aes256Xts: 'required' }), 'guest policy aes256Xts'],
    ['policy/attributes', guestPolicy({ raplOff: 'required' }), 'guest policy raplOff'],
    ['policy/attributes', guestPolicy({ ciphertextHiding: 'required' }), 'guest policy ciphertextHiding'],
    ['policy/attributes', guestPolicy({ pageSwapOff: 'required' }), 'guest policy pageSwapOff'],
    ['policy/minimum-version', { guestPolicyAbiMin: { major: 0, minor: 1 } }, 'guest policy ABI'],
    ['policy/minimum-version', { guestPolicyAbiMin: { major: 1, minor: 0 } }, 'guest policy ABI'],
    ['policy/platform-info', platformInfo({ smt: 'forbidden' }), 'platform info smt'],
    ['policy/platform-info', platformInfo({ tsme: 'required' }), 'platform info tsme'],
    ['policy/platform-info', platformInfo({ ecc: 'forbidden' }), 'platform info ecc'],
    ['policy/platform-info', platformInfo({ raplOff: 'required' }), 'platform info raplOff'],
    ['policy/platform-info', platformInfo({ ciphertextHiding: 'required' }), 'platform info ciphertextHiding'],
    ['policy/platform-info', platformInfo({ aliasCheckComplete: 'forbidden' }), 'platform info aliasCheckComplete'],
    ['policy/platform-info', platformInfo({ tio: 'required' }), 'platform info tio'],
    ['policy/vmpl', { vmpl: [0] }, 'VMPL'],
    ['tcb/below-minimum', { reportedTcbMin: { Milan: { ...floor, microcode: 223 } } }, 'REPORTED_TCB'],
    ['tcb/below-minimum', { reportedTcbMin: { Milan: { ...floor, tee: 1 } } }, 'REPORTED_TCB'],
    ['tcb/below-minimum', { reportedTcbMin: { Milan: { ...floor, fmc: 0 } } }, 'REPORTED_TCB'],
    ['tcb/below-minimum', { reportedTcbMin: { Genoa: floor } }, 'REPORTED_TCB'],
    ['tcb/below-minimum', { committedTcbMin: { Milan: { ...floor, snp: 28 } } }, 'COMMITTED_TCB'],
    ['tcb/below-minimum', { launchTcbMin: { Milan: { ...floor, bootloader: 5 } } }, 'LAUNCH_TCB'],
    ['policy/minimum-version', { firmwareMin: { major: 1, minor: 55, build: 36 } }, 'committed firmware'],
    ['policy/minimum-version', { firmwareMin: { major: 1, minor: 56, build: 0 } }, 'committed firmware'],
    ['policy/minimum-version', { firmwareMin: { major: 2, minor: 0, build: 0 } }, 'committed firmware'],
    ['tcb/below-minimum', { launchMitigations: '0000000000000004' }, 'LAUNCH_MIT_VECTOR'],
    ['tcb/below-minimum', { currentMitigations: '000000000000001b' }, 'CURRENT_MIT_VECTOR'],
    ['policy/measurement', { measurement: [none.repeat(48)] }, 'MEASUREMENT'],
    ['policy/measurement', { measurement: [] }, 'MEASUREMENT'],
    ['policy/measurement', { hostData: ['11'.repeat(32)] }, 'HOST_DATA'],
    ['policy/measurement', { familyId: ['11'.repeat(16)] }, 'FAMILY_ID'],
    ['policy/measurement', { imageId: ['11'.repeat(16)] }, 'IMAGE_ID'],
    ['policy/measurement', { idKeyDigest: ['11'.repeat(48)] }, 'ID_KEY_DIGEST'],
    ['policy/measurement', { authorKeyDigest: [none.repeat(48)] }, 'AUTHOR_KEY_DIGEST'],
    ['policy/migration', { reportIdOfMigrationAgent: [none.repeat(32)] }, 'REPORT_ID_MA'],
    ['policy/minimum-version', { guestSvnMin: 1 }, 'GUEST_SVN'],
  ])('%s %j', async (reason, demands, check) => {
    expect(await refusals(milan, demands)).toEqual([[reason, check]]);
  });

  test('debugging', async () => {
    expect(await refusals(debug, {})).toEqual([['policy/debug', 'guest policy debug']]);
  });

  test('mitigations of reports that have no vector', async () => {
    const demands = { launchMitigations: '0'.repeat(16), currentMitigations: '0'.repeat(16) };
    expect(await refusals(vlek, demands)).toEqual([
      ['tcb/below-minimum', 'LAUNCH_MIT_VECTOR'],
      ['tcb/below-minimum', 'CURRENT_MIT_VECTOR'],
    ]);
  });

  test('firmware that is not committed', async () => {
    expect(await refusals(vlek, { provisionalFirmware: 'forbidden' })).toEqual([
      ['tcb/provisional', 'provisional firmware'],
    ]);
    const { report } = milan;
    const newer = { ...milan, report: { ...report, currentFirmware: { ...report.currentFirmware, build: 36 } } };
    expect(await refusals(newer, { provisionalFirmware: 'forbidden' })).toHaveLength(1);
  });

  test("another provider's VLEK, and a masked chip id where chips are listed", async () => {
    expect(await refusals(vlek, { cspId: ['CN=cc-us-east-2.amazonaws.com'] })).toEqual([]);
    expect(await refusals(vlek, { cspId: ['CN=cc-eu-west-1.amazonaws.com'] })).toEqual([
      ['policy/attributes', 'cloud provider'],
    ]);
    expect(await refusals(vlek, { chipId: ['11'.repeat(64)] })).toEqual([['policy/attributes', 'CHIP_ID']]);
  });

  test('platform info bits that are not known', async () => {
    const { report } = milan;
    const newer = { ...milan, report: { ...report, platformInfo: { ...report.platformInfo, bits: 1n << 40n } } };
    expect(await refusals(newer, { platformInfoUnknown: 'forbidden' })).toEqual([
      ['policy/platform-info', 'platform info unknown bits'],
    ]);
  });

  test('TCB minima when the product is not known, and a provider when the certificate is not', async () => {
    const unknown = { report: milan.report, product: undefined, leaf: undefined };
    const demands = { reportedTcbMin: { Milan: floor }, products: ['Milan'], cspId: ['CN=any'] } as const;
    expect(await refusals(unknown, demands)).toEqual([
      ['policy/tee-kind', 'product'],
      ['policy/attributes', 'cloud provider'],
      ['tcb/below-minimum', 'REPORTED_TCB'],
    ]);
  });
});

test('every demand becomes one finding, and those left out say why', async () => {
  const findings = new Findings();
  await appraiseSnpReport(milan, DEFAULT_DEMANDS, findings);
  const names = findings.list.map(({ check }) => check);
  expect(new Set(names).size).toBe(names.length);
  const { guestPolicy: policy, platformInfo: platform, ...others } = DEFAULT_DEMANDS;
  expect(names).toHaveLength([policy, platform, others].flatMap(Object.keys).length);
  const skipped = findings.list.filter(({ outcome }) => outcome === 'skipped');
  expect(skipped).toHaveLength(names.length - 2); // debugging and migration are always looked at here
  expect(skipped.every((finding) => 'detail' in finding && finding.detail === 'not part of this test')).toBe(true);
});
