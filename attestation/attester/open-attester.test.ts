import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  CfnError,
  evidenceDigest,
  fromBase64url,
  gpuNonce,
  NO_ENDORSEMENTS,
  NO_WORKER_KEYS,
  parseEvidence,
  parseWorkerKeys,
  reportData,
  utf8,
  type Endorsements,
} from '../../proto/index.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import type { CollectedEvidence } from './attester.ts';
import { collectEvidence, endorsementsFile, openAttester, type AttesterOptions } from './index.ts';
import { compileFakeNvml, skipReason, type FakeNvml } from './nvml/nvml.testkit.ts';
import { certificateTable, fakeTsm, recorded, type FakePlatform, type FakeTsm } from './tsm.testkit.ts';

const nonce = new Uint8Array(32).fill(5);
const keys = new Uint8Array(10).fill(6);
const noCcel = { table: '/nowhere/CCEL' };

let tsm: FakeTsm | undefined;
afterEach(() => tsm?.delete());

function options(platform: FakePlatform, others: Partial<AttesterOptions> = {}): AttesterOptions {
  tsm = fakeTsm(platform);
  return { gpu: 'none', tsm: { ...tsm, sleep: () => Promise.resolve() }, ...others };
}

describe('TDX', () => {
  test('gives the quote without its padding, over nonce, keys and GPU evidence', async () => {
    using attester = await openAttester(options({}));
    expect(attester.tee).toBe('tdx');
    const evidence = await attester.collect(nonce, keys);
    expect(parseEvidence(utf8(JSON.stringify(evidence)))).toEqual(evidence);
    expect(evidence).toMatchObject({ tee: 'tdx', gpus: [], endorsements: NO_ENDORSEMENTS });
    const quote = fromBase64url(evidence.quote);
    const padded = recorded.tdx(await reportData(nonce, keys, []));
    expect(quote).toEqual(padded.slice(0, parseTdxQuote(padded).quoteBytes));
    expect(quote.length).toBeLessThan(padded.length);
  });

  test('refuses what is no quote, and a quote over other report data', async () => {
    const collect = async (platform: FakePlatform) => (await openAttester(options(platform))).collect(nonce, keys);
    await expect(collect({ quote: (data) => recorded.tdx(data).slice(0, 1000) })).rejects.toMatchObject({
      code: 'CFN_EVIDENCE_MALFORMED',
    });
    await expect(collect({ quote: () => recorded.tdx(new Uint8Array(64)) })).rejects.toMatchObject({
      code: 'CFN_QUOTE_UNAVAILABLE',
      reason: 'collect/quote-of-another',
    });
  });
});

describe('SEV-SNP', () => {
  const vcek = new Uint8Array([0x30, 0x03, 0x02, 0x01, 0x00]);

  test('gives the report, and what the host supplies as endorsements that no digest covers', async () => {
    using attester = await openAttester(options({ provider: 'sev_guest', auxblob: certificateTable(vcek) }));
    expect(attester.tee).toBe('snp');
    const evidence = await attester.collect(nonce, keys);
    const report = parseSnpReport(fromBase64url(evidence.quote));
    expect(report.reportData).toEqual(await reportData(nonce, keys, []));
    expect(evidence.endorsements.amd.certificates.map((it) => fromBase64url(it))).toEqual([vcek]);
    expect(await evidenceDigest({ ...evidence, endorsements: NO_ENDORSEMENTS })).toBe(await evidenceDigest(evidence));
  });

  test('refuses a padded report, another one, and a broken table', async () => {
    const reasonOf = async (platform: FakePlatform) =>
      (await openAttester(options({ provider: 'sev_guest', ...platform }))).collect(nonce, keys).then(
        () => expect.unreachable('it worked'),
        (error: { reason: string }) => error.reason,
      );
    expect(await reasonOf({ quote: (data) => new Uint8Array([...recorded.snp(data), 0]) })).toBe('parse/leftover');
    expect(await reasonOf({ quote: () => recorded.snp(new Uint8Array(64)) })).toBe('collect/quote-of-another');
    const table = certificateTable(vcek);
    table[20] = 0xff;
    expect(await reasonOf({ auxblob: table })).toBe('parse/length');
  });
});

test('outside of a TEE there is no attester', async () => {
  await expect(openAttester({ gpu: 'none', tsm: { directory: '/nowhere' } })).rejects.toMatchObject({
    code: 'CFN_TEE_ABSENT',
    reason: 'collect/no-tee',
  });
});

describe('endorsements that the operator supplies', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cfn-endorsements-'));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const supplied: Endorsements = {
    intel: [],
    amd: { certificates: ['MAMCAQA', 'AAAA'], crls: ['BBBB'] },
    nvidia: { rims: ['<r/>'], ocsp: ['CCCC'], crls: [] },
  };

  test('join those of the platform, and the file is read each time', async () => {
    const file = join(folder, 'endorsements.json');
    await writeFile(file, JSON.stringify(NO_ENDORSEMENTS));
    const table = certificateTable(new Uint8Array([0x30, 0x03, 0x02, 0x01, 0x00]));
    using attester = await openAttester(
      options({ provider: 'sev_guest', auxblob: table }, { endorsements: endorsementsFile(file) }),
    );
    expect((await attester.collect(nonce, keys)).endorsements.amd.certificates).toEqual(['MAMCAQA']);
    await writeFile(file, JSON.stringify(supplied));
    const { endorsements } = await attester.collect(nonce, keys);
    expect(endorsements).toEqual(supplied); // the VCEK is in both, and is there once
  });

  test('may be fetched for what was collected; a service that does not answer stops the evidence', async () => {
    const asked: CollectedEvidence[] = [];
    const endorsements = async (collected: CollectedEvidence): Promise<Endorsements> => {
      asked.push(collected);
      if (asked.length > 1) throw new CfnError('CFN_VENDOR_UNREACHABLE', 'it does not answer');
      return supplied;
    };
    using attester = await openAttester(options({ provider: 'sev_guest' }, { endorsements }));
    const evidence = await attester.collect(nonce, keys);
    expect(evidence.endorsements).toEqual(supplied);
    expect(asked).toEqual([{ tee: 'snp', quote: fromBase64url(evidence.quote), gpus: [] }]);
    await expect(attester.collect(nonce, keys)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });

  test.each([
    ['no file', undefined],
    ['no JSON', '{'],
    ['a member too much', JSON.stringify({ ...supplied, more: 1 })],
    ['a member too few', JSON.stringify({ intel: [] })],
    ['what is not base64url', JSON.stringify({ ...supplied, amd: { certificates: ['a+b='], crls: [] } })],
  ])('are refused: %s', async (name, content) => {
    const file = join(folder, `${name}.json`);
    if (content !== undefined) await writeFile(file, content);
    await expect(endorsementsFile(file)()).rejects.toMatchObject({ reason: 'collect/endorsements' });
  });
});

describe('collectEvidence', () => {
  test('without keys binds a document that nobody takes for a worker’s', async () => {
    const { evidence, eventLog } = await collectEvidence({ ...options({}), nonce, ccel: noCcel });
    expect(fromBase64url(evidence.workerKeys)).toEqual(NO_WORKER_KEYS);
    expect(() => parseWorkerKeys(NO_WORKER_KEYS)).toThrow(
      expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }) as Error,
    );
    expect(eventLog).toBeUndefined();
  });

  test('gives the event log along on TDX', async () => {
    tsm = undefined;
    const asked = options({});
    const table = join(asked.tsm?.directory ?? '', 'CCEL');
    await writeFile(table, 'table');
    await writeFile(`${table}.log`, 'log');
    const { eventLog } = await collectEvidence({ ...asked, nonce, ccel: { table, log: `${table}.log` } });
    expect(eventLog).toEqual({ table: new Uint8Array(await readFile(table)), log: new Uint8Array(utf8('log')) });
  });
});

describe.skipIf(skipReason !== undefined)(`with a GPU${skipReason ? ` (skipped: ${skipReason})` : ''}`, () => {
  let fake: FakeNvml;
  beforeAll(() => {
    fake = compileFakeNvml();
  });
  afterEach(() => fake.turn({}));
  afterAll(() => fake.delete());
  const withGpu = (onPci: number): Partial<AttesterOptions> => ({
    gpu: 'required',
    nvml: { library: fake.library },
    gpus: { onPci: () => Promise.resolve({ gpus: onPci, switches: 0 }) },
  });

  test('the GPU answers the derived nonce, and the quote covers its evidence', async () => {
    using attester = await openAttester(options({}, withGpu(1)));
    const evidence = await attester.collect(nonce, keys);
    const [gpu] = evidence.gpus;
    expect(evidence.gpus).toHaveLength(1);
    expect(gpu).toMatchObject({ arch: 'HOPPER', certificates: fake.chain });
    expect(fromBase64url(gpu?.report ?? '').slice(4, 36)).toEqual(await gpuNonce(nonce, keys));
    const { report } = parseTdxQuote(fromBase64url(evidence.quote));
    expect(report.reportData).toEqual(await reportData(nonce, keys, evidence.gpus));
  });

  test('a GPU that fails stops the evidence before a quote is made', async () => {
    fake.turn({ devToolsMode: 1 });
    using attester = await openAttester(options({}, withGpu(1)));
    await expect(attester.collect(nonce, keys)).rejects.toMatchObject({ reason: 'collect/gpu-devtools' });
    expect(tsm?.requests).toEqual([]);
  });

  test('a GPU that is required and is not there is no CPU-only worker', async () => {
    fake.turn({ count: 0 });
    using attester = await openAttester(options({}, withGpu(0)));
    await expect(attester.collect(nonce, keys)).rejects.toMatchObject({ reason: 'collect/gpu-none' });
  });
});
