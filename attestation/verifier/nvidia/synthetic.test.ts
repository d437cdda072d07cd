import { beforeAll, describe, expect, test } from 'vitest';
import { fromHex, utf8 } from '../../../proto/index.ts';
import { parseCrl } from '../../evidence/crl.ts';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { issueCrl, type CrlRequest } from '../../testing/crl.testkit.ts';
import {
  certificatesOf,
  issueBlackwellChain,
  issueChain,
  issueResponder,
  issueRimChain,
  OCSP_STATUS,
  parsedDevice,
  signXml,
  writeOcsp,
  writeReport,
  writeSwidTag,
  type Chain,
  type ReportParts,
  type RimParts,
} from './authority.fixture.ts';
import type { GpuDemands } from './demands.ts';
import { judge, reasonsOf } from './nvidia.fixture.ts';
import type { NvidiaEvidence } from './verify.ts';

const NOW = new Date('2025-10-24T12:00:00Z');
const NONCE = new Uint8Array(32).fill(7);
const FWID = new Uint8Array(48).fill(3);
const value = (seed: number): Uint8Array<ArrayBuffer> => new Uint8Array(48).fill(seed);
const BLOCKS = Array.from({ length: 40 }, (_, i) => value(i));
const FIELDS: ReportParts['fields'] = {
  driverVersion: utf8('580.65.06\0'),
  vbiosVersion: fromHex('0088009712000000'),
  project: utf8('G525\0'),
  projectSku: utf8('0220\0'),
  chipSku: utf8('886\0'),
  nvdec0: fromHex('aa'),
  fwid: FWID,
  protectedPcie: fromHex('55'),
  chip: utf8('GB100\0'),
  featureFlag: fromHex('0100'),
};
const DRIVER: RimParts = { product: 'GB100', version: '580.65.06', values: { 7: [value(7)], 35: [value(35)] } };
const VBIOS: RimParts = {
  product: 'GB100',
  version: '97.00.88.00.12',
  values: { 0: [value(0)], 9: [value(99), value(9)] },
};

/** Blackwell RIMs are not published as files that we may copy: here everything is signed by throw-away roots. */
describe('a Blackwell GPU under roots of our own', () => {
  let device: Chain;
  let rims: Chain;
  beforeAll(async () => {
    [device, rims] = await Promise.all([issueBlackwellChain(FWID), issueRimChain()]);
  });

  interface Change {
    readonly report?: Partial<ReportParts>;
    readonly fields?: ReportParts['fields'];
    readonly driver?: RimParts;
    readonly vbios?: RimParts;
    readonly more?: readonly RimParts[];
    readonly chain?: Chain;
    readonly evidence?: Partial<NvidiaEvidence>;
    readonly demands?: Partial<GpuDemands>;
  }
  async function judged(change: Change = {}) {
    const chain = change.chain ?? device;
    const fields = { ...FIELDS, ...change.fields };
    const report = await writeReport(chain, { nonce: NONCE, values: BLOCKS, fields, ...change.report });
    const tags = [change.driver ?? DRIVER, change.vbios ?? VBIOS, ...(change.more ?? [])].map(writeSwidTag);
    const evidence: NvidiaEvidence = {
      gpus: [parsedDevice('GPU 0', report, chain)],
      switches: [],
      rims: await Promise.all(tags.map((tag) => signXml(tag, rims))),
      ocsp: [],
      crls: [],
      revocation: { whenSupplied: 'throw-away authorities' },
      nonce: NONCE,
      now: NOW,
      roots: { device: chain.root, rim: rims.root },
      ...change.evidence,
    };
    return judge(evidence, { modes: ['multi-gpu-passthrough'], ...change.demands });
  }

  test('is accepted, and names its RIMs by the chip that it reports', async () => {
    const { findings, verification } = await judged();
    expect(findings.failures).toEqual([]);
    expect(verification.gpus[0]).toMatchObject({
      rimIds: ['NV_GPU_CC_DRIVER_GB100_580.65.06', 'NV_GPU_VBIOS_G525_0220_886_9700880012'],
      golden: { compared: 4, matching: 4 },
      device: { family: 'BLACKWELL' },
    });
  });

  test('is refused under NVIDIA’s roots', async () => {
    const { reasons } = await judged({ evidence: { roots: undefined as never } });
    expect(reasons).toEqual(['certificate/untrusted-root']);
  });

  test.each<[string, Change, string[]]>([
    [
      'a value that differs',
      { driver: { ...DRIVER, values: { 7: [value(8)], 35: [value(1)] } } },
      ['reference/mismatch'],
    ],
    ['a size that differs', { driver: { ...DRIVER, size: 47 } }, ['reference/mismatch']],
    [
      'a value of another length',
      { driver: { ...DRIVER, values: { 7: [value(7).subarray(1)] }, size: 47 } },
      ['reference/mismatch'],
    ],
    [
      'an index without measurement',
      { driver: { ...DRIVER, values: { 40: [value(40)] } } },
      ['reference/missing-index'],
    ],
    ['an index in both RIMs', { vbios: { ...VBIOS, values: { 7: [value(7)] } } }, ['reference/conflict']],
    ['a driver RIM of Hopper', { driver: { ...DRIVER, product: 'GH100' } }, ['collateral/rim-product']],
    ['a VBIOS RIM of Hopper', { vbios: { ...VBIOS, product: 'GH100' } }, ['collateral/rim-product']],
    ['a driver RIM of another version', { driver: { ...DRIVER, version: '580.65.07' } }, ['collateral/rim-version']],
    ['a VBIOS RIM of another version', { vbios: { ...VBIOS, version: '97.00.88.00.13' } }, ['collateral/rim-version']],
    ['a switch’s RIM for a VBIOS’s', { vbios: { ...VBIOS, edition: 'SWITCH' } }, ['collateral/rim-missing']],
    [
      'a report without driver version',
      { fields: { driverVersion: utf8('\0') } },
      ['collateral/rim-version', 'policy/minimum-version'],
    ],
    ['another chip in the report', { fields: { chip: utf8('GB102\0') } }, ['certificate/wrong-product']],
    ['another firmware id', { fields: { fwid: value(4) } }, ['evidence/fwid-mismatch']],
    ['another nonce', { report: { nonce: value(1).subarray(16) } }, ['binding/nonce-mismatch']],
    ['an empty nonce', { evidence: { nonce: new Uint8Array() } }, ['binding/nonce-empty']],
    ['a mode that is not accepted', { demands: { modes: ['single-passthrough'] } }, ['policy/gpu-mode']],
    ['a mode that nobody knows', { fields: { featureFlag: fromHex('0900') } }, ['policy/gpu-mode']],
    [
      'a mode that contradicts itself',
      { fields: { protectedPcie: fromHex('aa') } },
      ['policy/gpu-mode', 'policy/gpu-topology'],
    ],
    ['an architecture that is not accepted', { demands: { architectures: ['HOPPER'] } }, ['policy/gpu-family']],
    ['no architecture accepted', { demands: { architectures: [] } }, ['policy/gpu-family']],
    ['an old driver', { demands: { driver: { minimum: '580.65.10' } } }, ['policy/minimum-version']],
    ['a minimum that is no version', { demands: { driver: { minimum: 'newest' } } }, ['policy/minimum-version']],
    ['a driver not in the list', { demands: { driver: { oneOf: [] } } }, ['policy/minimum-version']],
    ['an old VBIOS', { demands: { vbios: { minimum: '97.00.88.00.1A' } } }, ['policy/minimum-version']],
    ['too few GPUs', { demands: { countMin: 2 } }, ['policy/gpu-count']],
    ['too many GPUs', { demands: { countMin: 0, countMax: 0 } }, ['policy/gpu-count']],
    ['a bound that is no number', { demands: { countMin: Number.NaN } }, ['policy/gpu-count']],
    ['no RIM', { evidence: { rims: [] } }, ['collateral/rim-missing']],
    [
      'values of the policy that differ',
      { demands: { measurements: { values: { 3: ['00'.repeat(48)] } } } },
      ['reference/mismatch'],
    ],
    ['values of the policy that are none', { demands: { measurements: { values: {} } } }, ['collateral/rim-empty']],
    [
      'a value of the policy that may be nothing',
      { demands: { measurements: { values: { 3: [] } } } },
      ['reference/mismatch'],
    ],
    [
      'a mismatch, also where no RIM is demanded',
      { driver: { ...DRIVER, values: { 7: [value(8)] } }, demands: { measurements: { notChecked: 'test' } } },
      ['reference/mismatch'],
    ],
  ])('is refused for %s', async (_name, change, reasons) => {
    expect((await judged(change)).reasons).toEqual(reasons);
  });

  test('lists every index that differs', async () => {
    const { findings } = await judged({
      driver: { ...DRIVER, values: { 7: [value(8)], 20: [value(1)], 21: [value(21)] } },
    });
    expect(findings.failures.map(({ detail }) => detail)).toEqual(['GPU 0: measurements differ at RIM index 7, 20']);
  });

  test('index 35 counts unless NVDEC0 is off', async () => {
    const driver = { ...DRIVER, values: { 35: [value(1)] } };
    expect((await judged({ driver })).reasons).toEqual(['reference/mismatch']);
    expect((await judged({ driver, fields: { nvdec0: fromHex('00') } })).reasons).toEqual(['reference/mismatch']);
    const off = await judged({ driver, fields: { nvdec0: fromHex('55') } });
    expect(off.reasons).toEqual([]);
    expect(off.findings.list).toContainEqual(
      expect.objectContaining({ check: 'GPU 0 measurement 35', outcome: 'skipped' }),
    );
    // Nothing left to compare is not a match.
    const vbios = { ...VBIOS, values: { 35: [value(1)] } };
    const none = await judged({ driver, vbios, fields: { nvdec0: fromHex('55') } });
    expect(none.reasons).toEqual(['collateral/rim-empty', 'reference/conflict']);
  });

  test('of two RIMs for one version, the one that agrees counts', async () => {
    const reissued = { ...VBIOS, values: { 0: [value(1)] } };
    expect((await judged({ more: [reissued] })).reasons).toEqual([]);
    expect((await judged({ vbios: reissued, more: [VBIOS] })).reasons).toEqual([]);
    expect((await judged({ vbios: reissued, more: [reissued] })).reasons).toEqual(['reference/mismatch']);
  });

  test('versions are compared without regard to case, RIMs that nobody needs left aside', async () => {
    const { findings, reasons } = await judged({
      fields: { vbiosVersion: fromHex('0088009f1c000000') },
      vbios: { ...VBIOS, version: '9f.00.88.00.1c' },
      more: [{ ...DRIVER, version: '590.1' }],
    });
    expect(reasons).toEqual([]);
    expect(findings.list).toContainEqual({
      check: 'RIM driver GB100 590.1',
      outcome: 'skipped',
      detail: 'no device here needs it',
    });
  });

  test('debugging is called off only where reference values say so', async () => {
    const debug = async (change: Change) =>
      (await judged(change)).findings.list.find(({ check }) => check === 'GPU 0 debug off');
    expect(await debug({})).toMatchObject({ outcome: 'passed' });
    const notChecked = { measurements: { notChecked: 'test' } };
    expect(await debug({ demands: notChecked, evidence: { rims: [] } })).toMatchObject({ outcome: 'skipped' });
    expect(await debug({ driver: { ...DRIVER, values: { 7: [value(8)] } } })).toMatchObject({ outcome: 'skipped' });
    const values = { values: { 7: ['07'.repeat(48)] } };
    expect(await debug({ demands: { measurements: values }, evidence: { rims: [] } })).toMatchObject({
      outcome: 'passed',
    });
  });

  test('a firmware id that is not reported is for the policy to say', async () => {
    const fields = Object.fromEntries(Object.entries(FIELDS).filter(([field]) => field !== 'fwid'));
    const report = { fields };
    expect((await judged({ report })).reasons).toEqual(['evidence/fwid-unavailable']);
    expect((await judged({ report, demands: { firmwareId: { whenReported: 'old driver' } } })).reasons).toEqual([]);
  });

  test('too much of anything is refused before work begins', async () => {
    const rims = Array.from({ length: 65 }, () => new Uint8Array());
    await expect(judged({ evidence: { rims } })).rejects.toMatchObject({ reason: 'parse/length' });
  });

  test('two GPUs need two devices, also where one device made two leaves', async () => {
    const [leaf, ...above] = certificatesOf(device);
    const [other] = certificatesOf(await issueBlackwellChain(FWID));
    if (leaf === undefined || other === undefined) throw new RangeError('leaves');
    const report = await writeReport(device, { nonce: NONCE, values: BLOCKS, fields: FIELDS });
    const gpu = parsedDevice('GPU 0', report, device);
    const same = await judged({ evidence: { gpus: [gpu, { ...gpu, name: 'GPU 1' }] } });
    expect(same.reasons).toEqual(['policy/gpu-duplicate']);
    const twin = { ...gpu, name: 'GPU 1', chain: [other, ...above] };
    expect((await judged({ evidence: { gpus: [gpu, twin] } })).reasons).toContain('policy/gpu-duplicate');
  });

  test('GPUs of two chips are refused', async () => {
    const chain = await issueBlackwellChain(FWID, 'GB102');
    const fields = { ...FIELDS, chip: utf8('GB102') };
    const gpus = [
      parsedDevice('GPU 0', await writeReport(device, { nonce: NONCE, values: BLOCKS, fields: FIELDS }), device),
      parsedDevice('GPU 1', await writeReport(chain, { nonce: NONCE, values: BLOCKS, fields }), chain),
    ];
    expect((await judged({ evidence: { gpus } })).reasons).toContain('policy/gpu-family');
  });

  describe('revocation', () => {
    /** Answers for all certificates that need one. */
    async function answers(status: Uint8Array = OCSP_STATUS.good, of = 1): Promise<NvidiaEvidence['ocsp']> {
      const pairs = [
        ...device.issued.slice(1, -1).map((_, i) => [device.issued[i + 1], device.issued[i + 2]] as const),
        ...rims.issued.slice(0, -1).map((_, i) => [rims.issued[i], rims.issued[i + 1]] as const),
      ];
      return Promise.all(
        pairs.map(async ([certificate, issuer], i) => {
          if (certificate === undefined || issuer === undefined) throw new RangeError('a pair');
          const responder = await issueResponder(issuer);
          const said = i === of ? status : OCSP_STATUS.good;
          return parseOcspResponse(await writeOcsp({ certificate, issuer, responder, status: said }));
        }),
      );
    }

    test('is accepted where all answers are there and good', async () => {
      const { findings } = await judged({ evidence: { revocation: 'required', ocsp: await answers() } });
      expect(findings.failures).toEqual([]);
      // Three of the device chain, three of each RIM.
      expect(findings.list.filter(({ check }) => check.includes('revocation of'))).toHaveLength(9);
    });

    test('is refused where one is missing, or answers for nobody', async () => {
      const all = await answers();
      expect((await judged({ evidence: { revocation: 'required', ocsp: all.slice(1) } })).reasons).toEqual([
        'revocation/missing',
      ]);
      expect((await judged({ evidence: { revocation: 'required' } })).reasons).toEqual(['revocation/missing']);
      const [first] = all;
      if (first === undefined) throw new RangeError('an answer');
      const alien = {
        ...first,
        answers: first.answers.map((answer) => ({ ...answer, certId: { ...answer.certId, serial: fromHex('01') } })),
      };
      expect((await judged({ evidence: { ocsp: [alien] } })).reasons).toEqual(['revocation/wrong-issuer']);
    });

    test.each([0, 1, 2, 3, 4, 5])('is refused where the answer %i says revoked, though not required', async (of) => {
      const judgement = await judged({ evidence: { ocsp: await answers(OCSP_STATUS.revoked(1), of) } });
      expect(judgement.reasons).toEqual(['certificate/revoked']);
    });

    test('one bad answer is not outvoted by a good one', async () => {
      const ocsp = [...(await answers()), ...(await answers(OCSP_STATUS.unknown))];
      expect((await judged({ evidence: { ocsp } })).reasons).toEqual(['revocation/status-unknown']);
    });

    test('a hold counts as the policy says', async () => {
      const ocsp = await answers(OCSP_STATUS.revoked(6));
      expect((await judged({ evidence: { ocsp } })).reasons).toEqual(['revocation/hold']);
      expect((await judged({ evidence: { ocsp, holdTolerated: true } })).reasons).toEqual([]);
    });

    test('lists count as answers do', async () => {
      const authority = device.issued[2]; // the provisioner, which issued the boot ROM
      const rom = device.issued[1];
      if (authority === undefined || rom === undefined) throw new RangeError('five');
      const dates = { thisUpdate: '2025-10-24T00:00:00Z', nextUpdate: '2025-11-24T00:00:00Z' };
      const judgeList = async (
        request: Partial<CrlRequest>,
        evidence: Partial<NvidiaEvidence> = {},
      ): Promise<string[]> => {
        const crl = parseCrl(await issueCrl(authority, { ...dates, ...request }));
        return (await judged({ evidence: { crls: [crl], ...evidence } })).reasons;
      };
      const { serial } = parseCertificate(rom.der);
      expect(await judgeList({})).toEqual([]);
      expect(await judgeList({}, { revocation: 'required' })).toEqual(['revocation/missing']);
      expect(await judgeList({ revoked: [{ serial }] })).toEqual(['certificate/revoked']);
      expect(await judgeList({ revoked: [{ serial, reason: 6 }] })).toEqual(['revocation/hold']);
      expect(await judgeList({ revoked: [{ serial, reason: 6 }] }, { holdTolerated: true })).toEqual([]);
      expect(await judgeList({ revoked: [{ serial, reason: 1 }] }, { holdTolerated: true })).toEqual([
        'certificate/revoked',
      ]);
      expect(await judgeList({ nextUpdate: '2025-10-24T06:00:00Z' })).toEqual(['revocation/stale']);
      const forged = parseCrl(await issueCrl(authority, dates, device.issued[3] ?? authority));
      expect((await judged({ evidence: { crls: [forged] } })).reasons).toEqual(['revocation/signature']);
      const stranger = parseCrl(await issueCrl((await issueChain(['a', 'b'])).issued[1] ?? authority, dates));
      expect((await judged({ evidence: { crls: [stranger] } })).reasons).toEqual(['revocation/wrong-issuer']);
    });

    test('stale answers are refused', async () => {
      const judgement = await judged({ evidence: { ocsp: await answers(), now: new Date('2025-10-26T00:00:00Z') } });
      expect(judgement.reasons).toEqual(['revocation/stale']);
      expect(reasonsOf(judgement.findings.failures)).toHaveLength(1);
    });
  });
});
