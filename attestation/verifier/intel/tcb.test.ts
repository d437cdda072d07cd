import { beforeAll, describe, expect, test } from 'vitest';
import { parseQeIdentity, parseTcbInfo } from '../../evidence/intel-tcb.ts';
import type { SgxExtension } from '../../evidence/pck.ts';
import { parseTdxQuote, type TdxQuote } from '../../evidence/tdx.ts';
import {
  level,
  makeIntelAuthority,
  moduleIdentity,
  qeIdentity,
  tcbInfo,
  type IntelAuthority,
  type LevelFields,
} from '../../testing/intel-authority.testkit.ts';
import { writeTdxQuote, type QuoteFields } from '../../testing/tdx-quote.testkit.ts';
import { readPckChain } from './quote.ts';
import { evaluateTcb, type TcbClaims } from './tcb.ts';
import { requireModuleIdentity, requireQeIdentity } from './tcb-level.ts';
import { converge } from './tcb-status.ts';

let authority: IntelAuthority;
let pck: SgxExtension;
beforeAll(async () => {
  authority = await makeIntelAuthority({ cpuSvn: [3, 3], pceSvn: 11 });
  pck = readPckChain(await quoteOf({})).extension;
});
const quoteOf = async (fields: QuoteFields): Promise<TdxQuote> =>
  parseTdxQuote(await writeTdxQuote(authority.pckChain, fields));

async function evaluate(
  fields: QuoteFields,
  info: object = {},
  extension: Partial<SgxExtension> = {},
): Promise<TcbClaims> {
  const parsed = parseTcbInfo(JSON.stringify(tcbInfo(info)));
  return evaluateTcb(
    await quoteOf(fields),
    { ...pck, ...extension },
    parsed,
    parseQeIdentity(JSON.stringify(qeIdentity())),
  );
}

describe('level of the platform', () => {
  test('first match wins, and names its status, date and advisories', async () => {
    expect(await evaluate({})).toEqual({
      status: 'UpToDate',
      platformStatus: 'UpToDate',
      sgxStatus: 'UpToDate',
      qeStatus: 'UpToDate',
      moduleStatus: 'UpToDate',
      advisoryIds: [],
      tcbDate: '2026-01-01T00:00:00.000Z',
      qeTcbDate: '2026-01-01T00:00:00.000Z',
      moduleTcbDate: '2026-01-01T00:00:00.000Z',
      tcbEvaluationDataNumber: 17,
      qeTcbEvaluationDataNumber: 17,
    });
  });

  test.each([
    ['a CPU SVN below', { tcbComponents: [2, 3, ...Array<number>(14).fill(0)] }],
    ['a PCESVN below', { pceSvn: 10 }],
  ])('%s takes the next level', async (_name, extension) => {
    expect(await evaluate({}, {}, extension)).toMatchObject({
      status: 'OutOfDate',
      sgxStatus: 'OutOfDate',
      advisoryIds: ['TEST-SA-00001', 'TEST-SA-00003'],
    });
  });

  test.each(Array.from({ length: 16 }, (_, i) => i))('each of the 16 SGX components counts: %i', async (index) => {
    const sgx = Array<number>(16).fill(0).with(index, 4);
    const tcbLevels = [level({ sgx, status: 'UpToDate' }), level({ status: 'ConfigurationNeeded' })];
    const have = { tcbComponents: Array<number>(16).fill(3) };
    expect((await evaluate({}, { tcbLevels }, have)).status).toBe('ConfigurationNeeded');
    const enough = { tcbComponents: have.tcbComponents.with(index, 4) };
    expect((await evaluate({}, { tcbLevels }, enough)).status).toBe('UpToDate');
  });

  test.each(Array.from({ length: 16 }, (_, i) => i))(
    'TDX component %i counts from 2 on, or from 0 with a module before 1',
    async (index) => {
      const tdx = Array<number>(16).fill(0).with(index, 9);
      const tcbLevels = [level({ tdx, status: 'UpToDate' }), level({ status: 'SWHardeningNeeded' })];
      const module1 = await evaluate({ teeTcbSvn: [5, 1, 3] }, { tcbLevels });
      expect(module1).toMatchObject({ status: index < 2 ? 'UpToDate' : 'SWHardeningNeeded', sgxStatus: 'UpToDate' });
      const module0 = await evaluate({ teeTcbSvn: [5, 0, 3] }, { tcbLevels });
      expect(module0).toMatchObject({ status: 'SWHardeningNeeded', moduleStatus: null, moduleTcbDate: null });
    },
  );

  test('no level', async () => {
    expect(await evaluate({}, {}, { pceSvn: 4 })).toMatchObject({
      status: 'NotSupported',
      platformStatus: 'NotSupported',
      sgxStatus: 'NotSupported',
      tcbDate: null,
    });
    expect(await evaluate({ teeTcbSvn: [5, 1, 1] })).toMatchObject({
      status: 'NotSupported',
      sgxStatus: 'UpToDate',
    });
  });

  test('a revoked CPU stays revoked, whatever level matches as a whole', async () => {
    const tcbLevels = [level({ tdx: [0, 0, 9], status: 'Revoked' }), level({ status: 'OutOfDate' })];
    expect((await evaluate({}, { tcbLevels })).status).toBe('Revoked');
  });
});

describe('converging', () => {
  test.each([
    ['UpToDate', 'OutOfDate', 'OutOfDate'],
    ['SWHardeningNeeded', 'OutOfDate', 'OutOfDate'],
    ['ConfigurationNeeded', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['ConfigurationAndSWHardeningNeeded', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['OutOfDate', 'OutOfDate', 'OutOfDate'],
    ['OutOfDateConfigurationNeeded', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['TDRelaunchAdvised', 'OutOfDate', 'OutOfDate'],
    ['TDRelaunchAdvisedConfigurationNeeded', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['NotSupported', 'OutOfDate', 'NotSupported'],
    ['SWHardeningNeeded', 'UpToDate', 'SWHardeningNeeded'],
    ['UpToDate', 'Revoked', 'Revoked'],
    ['OutOfDate', 'Revoked', 'Revoked'],
    ['Revoked', 'UpToDate', 'Revoked'],
    ['Revoked', 'OutOfDate', 'Revoked'],
    ['UpToDate', 'NotSupported', 'NotSupported'],
  ] as const)('%s with a part that is %s: %s', (status, part, expected) => {
    expect(converge(status, part)).toBe(expected);
  });

  test.each([
    [9, 'UpToDate', 'UpToDate'],
    [8, 'UpToDate', 'UpToDate'],
    [7, 'OutOfDate', 'OutOfDate'],
    [4, 'OutOfDate', 'OutOfDate'],
    [3, 'Revoked', 'Revoked'],
    [1, 'NotSupported', 'NotSupported'],
  ])('quoting enclave of ISVSVN %i', async (isvSvn, qeStatus, status) => {
    expect(await evaluate({ qe: { isvSvn } })).toMatchObject({ qeStatus, status, platformStatus: 'UpToDate' });
  });

  test.each([
    [5, 'UpToDate', 'UpToDate'],
    [4, 'OutOfDate', 'OutOfDate'],
    [2, 'OutOfDate', 'OutOfDate'],
    [1, 'NotSupported', 'NotSupported'],
  ])('module of minor SVN %i', async (minor, moduleStatus, status) => {
    expect(await evaluate({ teeTcbSvn: [minor, 1, 3] })).toMatchObject({ moduleStatus, status });
  });

  test('advisories of all parts are joined, each once', async () => {
    const { advisoryIds, status } = await evaluate({ teeTcbSvn: [2, 1, 2], qe: { isvSvn: 4 } });
    expect({ advisoryIds, status }).toEqual({
      status: 'OutOfDate',
      advisoryIds: ['TEST-SA-00001', 'TEST-SA-00002', 'TEST-SA-00003'],
    });
  });
});

describe('relaunch of the TD', () => {
  const patched: QuoteFields = { version: 5, teeTcbSvn: [4, 1, 3], teeTcbSvn2: [5, 1, 3] };
  const levels = (status: LevelFields['status']) => ({
    tcbLevels: [level({ sgx: [3, 3], tdx: [5, 0, 3], pcesvn: 11, status })],
  });

  test('is advised when only the module that started the TD is out of date', async () => {
    expect(await evaluate(patched)).toMatchObject({
      status: 'TDRelaunchAdvised',
      platformStatus: 'UpToDate',
      moduleStatus: 'OutOfDate',
      advisoryIds: ['TEST-SA-00002'],
    });
    expect((await evaluate(patched, levels('SWHardeningNeeded'))).status).toBe('TDRelaunchAdvised');
  });

  test.each(['ConfigurationNeeded', 'ConfigurationAndSWHardeningNeeded'] as const)('with %s', async (status) => {
    expect((await evaluate(patched, levels(status))).status).toBe('TDRelaunchAdvisedConfigurationNeeded');
  });

  test.each<[string, QuoteFields, string]>([
    ['a TD report 1.0', { version: 5, teeTcbSvn: [4, 1, 3] }, 'OutOfDate'],
    ['a module now that is not the newest', { ...patched, teeTcbSvn2: [4, 1, 3] }, 'OutOfDate'],
    ['microcode now that is not the newest', { ...patched, teeTcbSvn2: [5, 1, 2] }, 'OutOfDate'],
    ['a quoting enclave that is out of date', { ...patched, qe: { isvSvn: 7 } }, 'OutOfDate'],
    ['a quoting enclave that is revoked', { ...patched, qe: { isvSvn: 2 } }, 'Revoked'],
    ['a module that is up to date', { ...patched, teeTcbSvn: [5, 1, 3] }, 'UpToDate'],
    ['a module that is not supported', { ...patched, teeTcbSvn: [1, 1, 3] }, 'NotSupported'],
    ['a module before version 1 now, of that minor', { ...patched, teeTcbSvn2: [5, 0, 3] }, 'TDRelaunchAdvised'],
    ['a module before version 1 now, of a lower minor', { ...patched, teeTcbSvn2: [4, 0, 3] }, 'OutOfDate'],
  ])('%s', async (_name, fields, status) => {
    expect((await evaluate(fields)).status).toBe(status);
  });

  test('is not advised while the CPU itself is out of date', async () => {
    expect(await evaluate(patched, levels('OutOfDate'))).toMatchObject({ status: 'OutOfDate' });
    expect(await evaluate(patched, levels('OutOfDateConfigurationNeeded'))).toMatchObject({
      status: 'OutOfDateConfigurationNeeded',
    });
  });

  test('is advised when the SGX part is good and TDX components alone are behind', async () => {
    const tcbLevels = [
      level({ sgx: [3, 3], tdx: [5, 0, 4], status: 'UpToDate' }),
      level({ sgx: [2, 2], tdx: [3, 0, 2], status: 'OutOfDate' }),
    ];
    const now = { ...patched, teeTcbSvn2: [5, 1, 4] };
    expect(await evaluate(now, { tcbLevels })).toMatchObject({ status: 'TDRelaunchAdvised', sgxStatus: 'UpToDate' });
  });

  test('refuses a module now that Intel does not know', async () => {
    await expect(evaluate({ ...patched, teeTcbSvn2: [5, 2, 3] })).rejects.toMatchObject({
      reason: 'tcb/module-unknown',
    });
  });
});

describe('identities', () => {
  const requireModule = async (fields: QuoteFields, info: object = {}) =>
    requireModuleIdentity(parseTcbInfo(JSON.stringify(tcbInfo(info))), (await quoteOf(fields)).report);

  test('the TDX module: version, signer, masked attributes', async () => {
    await requireModule({});
    await requireModule({ teeTcbSvn: [5, 0, 3] });
    const ten = { tdxModuleIdentities: [moduleIdentity(0x1a, [], { id: 'tdx_1a' })] };
    await requireModule({ teeTcbSvn: [5, 0x1a, 3] }, ten);
    await expect(requireModule({ teeTcbSvn: [5, 2, 3] })).rejects.toMatchObject({ reason: 'tcb/module-unknown' });
    await expect(requireModule({ teeTcbSvn: [5, 1, 3] }, ten)).rejects.toMatchObject({ reason: 'tcb/module-unknown' });
    const signed = { mrsignerseam: new Uint8Array(48).fill(1) };
    await expect(requireModule(signed)).rejects.toMatchObject({ reason: 'tcb/module-signer' });
    await expect(requireModule({ ...signed, teeTcbSvn: [5, 0, 3] })).rejects.toMatchObject({
      reason: 'tcb/module-signer',
    });
    await expect(requireModule({ seamAttributes: 1n })).rejects.toMatchObject({ reason: 'tcb/module-signer' });
    const masked = { tdxModuleIdentities: [moduleIdentity(1, [], { attributesMask: `FE${'FF'.repeat(7)}` })] };
    await requireModule({ seamAttributes: 1n }, masked);
    await expect(requireModule({ seamAttributes: 1n << 56n }, masked)).rejects.toMatchObject({
      reason: 'tcb/module-signer',
    });
  });

  const requireQe = async (qe: QuoteFields['qe'], identity: object = {}) =>
    requireQeIdentity(
      parseQeIdentity(JSON.stringify(qeIdentity(identity))),
      (await quoteOf({ qe: qe ?? {} })).qeReport,
    );

  test.each<[string, QuoteFields['qe']]>([
    ['MISCSELECT', { miscSelect: 1 }],
    ['MISCSELECT, highest bit', { miscSelect: 0x8000_0000 }],
    ['debugging', { attributes: Uint8Array.of(0x13, ...Array<number>(7).fill(0), 0xe7, ...Array<number>(7).fill(0)) }],
    ['no provisioning key', { attributes: Uint8Array.of(0x01, ...Array<number>(15).fill(0)) }],
    ['signer', { mrsigner: new Uint8Array(32) }],
    ['product', { isvProdId: 1 }],
  ])('the quoting enclave: another %s', async (_name, qe) => {
    await expect(requireQe(qe)).rejects.toMatchObject({ reason: 'tcb/qe-identity' });
  });

  test('the quoting enclave: only masked bits count, in the order of the report', async () => {
    await requireQe({});
    await requireQe({ miscSelect: 0x0100_0000 }, { miscselectMask: 'FFFFFF00' });
    await expect(requireQe({ miscSelect: 1 }, { miscselectMask: 'FFFFFF00' })).rejects.toMatchObject({
      reason: 'tcb/qe-identity',
    });
    await requireQe({ miscSelect: 1 }, { miscselect: '01000000' });
    await requireQe({ attributes: Uint8Array.of(0x15, ...Array<number>(7).fill(0), ...Array<number>(8).fill(0xff)) });
  });
});
