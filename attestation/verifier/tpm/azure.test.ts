import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, utf8 } from '../../../proto/index.ts';
import { parseHclReport, type HclReport } from '../../evidence/azure-hcl.ts';
import { parseTpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import { parseTdxQuote, type TdxQuote } from '../../evidence/tdx.ts';
import { Findings } from '../findings.ts';
import { verifyAzureVtpm, type AzureHardware, type AzureVtpmInput } from './azure.ts';
import { digestOf, reasonsOf, vector, vectorText } from './tpm.fixture.ts';

const RUNTIME_DATA_AT = 1236;
const REPORT_DATA_AT = 32 + 0x50;
const notVerified = { notChecked: 'the hardware is not of this test' };
const demands = {
  nonce: utf8('challenge'),
  userDataIsNonce: false,
  references: { notChecked: 'not of this test' },
  secureBoot: 'required',
  verifyHardware: notVerified,
} as const;

function snp(): AzureVtpmInput {
  const evidence = parseTpmEvidence(vectorText('tpm/az-snp-evidence-v1.json'));
  if (evidence.kind !== 'azure-snp') throw new Error(evidence.kind);
  return { ...demands, hcl: evidence.hcl, quote: evidence.quote, tdQuote: undefined };
}

function tdx(): AzureVtpmInput & { tdQuote: TdxQuote } {
  const evidence = parseTpmEvidence(vectorText('tpm/az-tdx-evidence-v1.json'));
  if (evidence.kind !== 'azure-tdx') throw new Error(evidence.kind);
  return { ...demands, hcl: evidence.hcl, quote: evidence.quote, tdQuote: parseTdxQuote(evidence.tdQuote) };
}

const verify = (input: AzureVtpmInput) => reasonsOf((findings) => verifyAzureVtpm(input, findings));

/** The recorded HCL report with other runtime data, and with the digest of it in the SNP report if asked. */
async function withRuntimeData(change: (json: string) => string, rebind = false): Promise<Uint8Array> {
  const blob = vector('tpm/az-snp.hcl-report.bin');
  const view = new DataView(blob.buffer);
  const json = new TextDecoder().decode(blob.subarray(RUNTIME_DATA_AT, RUNTIME_DATA_AT + view.getUint32(1232, true)));
  const data = utf8(change(json));
  view.setUint32(8, 32 + 1184 + 20 + data.length, true);
  view.setUint32(1216, 20 + data.length, true);
  view.setUint32(1232, data.length, true);
  const out = concatBytes(blob.subarray(0, RUNTIME_DATA_AT), data, new Uint8Array(100));
  if (rebind) out.set(await digestOf('SHA-256', data), REPORT_DATA_AT);
  return out;
}

describe("Azure's chain", () => {
  test('case az-snp-v1: accepted, and the hardware is said not to be verified', async () => {
    const findings = new Findings();
    const claims = await verifyAzureVtpm(snp(), findings);
    expect(findings.failures).toEqual([]);
    expect(findings.list).toContainEqual({
      check: 'Azure hardware evidence',
      outcome: 'skipped',
      detail: notVerified.notChecked,
    });
    expect(claims).toMatchObject({
      hardware: 'snp',
      vm: { secureBoot: true, userData: '00'.repeat(64), tpmEnabled: true },
      tpm: { resetCount: 2, restartCount: 0, firmwareVersion: '2020031200120003' },
    });
    expect(Object.values(claims.tpm.pcrs['SHA-256'] ?? {})).toEqual(recordedFields('az-snp-v1').pcrs);
  });

  test('case az-tdx-v1: accepted, TD quote and TDREPORT agree', async () => {
    const findings = new Findings();
    const claims = await verifyAzureVtpm(tdx(), findings);
    expect(findings.failures).toEqual([]);
    expect(findings.list).toContainEqual({ check: 'Azure TD report', outcome: 'passed' });
    expect(claims).toMatchObject({ hardware: 'tdx', tpm: { resetCount: 1 } });
    expect(Object.values(claims.tpm.pcrs['SHA-256'] ?? {})).toEqual(recordedFields('az-tdx-v1').pcrs);
  });

  test("hands the hardware's evidence to its verifier", async () => {
    const seen: AzureHardware[] = [];
    const verifyHardware = async (hardware: AzureHardware): Promise<void> => void seen.push(hardware);
    await verifyAzureVtpm({ ...snp(), verifyHardware }, new Findings());
    await verifyAzureVtpm({ ...tdx(), verifyHardware }, new Findings());
    expect(seen.map(({ kind }) => kind)).toEqual(['snp', 'tdx']);
    expect(seen[0]).toMatchObject({ report: { length: 1184 } });
  });

  test('refuses a wrong nonce and a quote of another VM', async () => {
    expect(await verify({ ...snp(), nonce: utf8('other') })).toEqual(['binding/nonce-mismatch']);
    expect(await verify({ ...snp(), quote: tdx().quote })).toEqual(['evidence/tpm-signature']);
  });

  test('refuses user data that are not the nonce, where they have to be', async () => {
    const evidence = parseTpmEvidence(vectorText('tpm/az-snp-evidence-v2.json'));
    if (evidence.kind !== 'azure-snp') throw new Error(evidence.kind);
    const { hcl, quote } = evidence;
    const input = { ...demands, nonce: quote.quote.extraData, userDataIsNonce: true, hcl, quote, tdQuote: undefined };
    expect(await verify(input)).toEqual([]);
    for (const userData of [undefined, '', '00'.repeat(64), `${hcl.vm.userData?.slice(0, -2)}01`])
      expect(await verify({ ...input, hcl: { ...hcl, vm: { ...hcl.vm, userData } } })).toEqual([
        'binding/nonce-mismatch',
      ]);
  });

  test('refuses runtime data that the hardware does not report', async () => {
    const changed = await withRuntimeData((json) => json.replace('"secure-boot":true', '"secure-boot":true '));
    const quote = parseTpmEvidence(vectorText('tpm/az-snp.tpm-quote.json')).quote;
    expect(await verify({ ...snp(), quote, hcl: parseHclReport(changed) })).toEqual(['evidence/runtime-data-hash']);
    const rebound = await withRuntimeData((json) => json.replace('"secure-boot":true', '"secure-boot":false'), true);
    expect(await verify({ ...snp(), quote, hcl: parseHclReport(rebound) })).toEqual(['policy/measurement']);
  });

  test('refuses a digest that is followed by something', async () => {
    const blob = vector('tpm/az-snp.hcl-report.bin');
    blob[REPORT_DATA_AT + 63] = 1;
    const quote = parseTpmEvidence(vectorText('tpm/az-snp.tpm-quote.json')).quote;
    expect(await verify({ ...snp(), quote, hcl: parseHclReport(blob) })).toEqual(['evidence/runtime-data-hash']);
  });

  test('refuses a report that the guest itself asked for', async () => {
    const blob = vector('tpm/az-snp.hcl-report.bin');
    blob[32 + 0x30] = 2;
    const quote = parseTpmEvidence(vectorText('tpm/az-snp.tpm-quote.json')).quote;
    expect(await verify({ ...snp(), quote, hcl: parseHclReport(blob) })).toEqual(['policy/vmpl']);
  });

  test('refuses a TD quote of another TD, in any field', async () => {
    const input = tdx();
    const { report } = input.tdQuote;
    const other = (bytes: Uint8Array) => bytes.map((byte) => byte ^ 1);
    const changes: Partial<TdxQuote['report']>[] = [
      { reportData: other(report.reportData) },
      { mrtd: other(report.mrtd) },
      { mrseam: other(report.mrseam) },
      { mrsignerseam: other(report.mrsignerseam) },
      { mrconfigid: other(report.mrconfigid) },
      { mrowner: other(report.mrowner) },
      { mrownerconfig: other(report.mrownerconfig) },
      { teeTcbSvn: other(report.teeTcbSvn) },
      { tdAttributes: report.tdAttributes ^ 1n },
      { seamAttributes: report.seamAttributes ^ 1n },
      { xfam: report.xfam ^ 1n },
      { rtmrs: [report.rtmrs[0], report.rtmrs[1], report.rtmrs[2], other(report.rtmrs[3])] },
      { mrservicetd: new Uint8Array(48).fill(1) },
      { teeTcbSvn2: new Uint8Array(16).fill(1) },
    ];
    for (const change of changes) {
      const tdQuote = { ...input.tdQuote, report: { ...report, ...change } };
      expect(await verify({ ...input, tdQuote })).toEqual(['binding/report-data']);
    }
  });

  test('refuses a TDREPORT without a quote: nobody else can verify it', async () => {
    const verifyHardware = (): Promise<void> => Promise.reject(new Error('not called'));
    expect(await verify({ ...tdx(), tdQuote: undefined, verifyHardware })).toEqual(['collateral/missing']);
    // Where the hardware is not verified at all, a TDREPORT is worth what an SNP report is.
    expect(await verify({ ...tdx(), tdQuote: undefined })).toEqual([]);
  });
});

describe('HCL report', () => {
  const parse = (bytes: Uint8Array) => reasonsOf(async () => void parseHclReport(bytes));

  test('any change of the runtime data is refused somewhere', async () => {
    const blob = vector('tpm/az-snp.hcl-report.bin');
    const quote = parseTpmEvidence(vectorText('tpm/az-snp.tpm-quote.json')).quote;
    await fc.assert(
      fc.asyncProperty(fc.nat(1109), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const bytes = Uint8Array.from(blob);
        bytes[RUNTIME_DATA_AT + at] = (bytes[RUNTIME_DATA_AT + at] ?? 0) ^ bits;
        const reasons = await reasonsOf((findings) =>
          verifyAzureVtpm({ ...snp(), quote, hcl: parseHclReport(bytes) }, findings),
        );
        expect(reasons.length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });

  test('any bytes are parsed or refused as malformed', async () => {
    const blob = vector('tpm/az-snp.hcl-report.bin');
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            fc.oneof(fc.nat(blob.length - 1), fc.integer({ min: 0, max: 31 }), fc.integer({ min: 1216, max: 1300 })),
            fc.nat(255),
          ),
          { maxLength: 4 },
        ),
        fc.nat(blob.length),
        async (changes, length) => {
          const bytes = Uint8Array.from(blob);
          for (const [at, value] of changes) bytes[at] = value;
          await parse(bytes);
          await parse(bytes.subarray(0, length));
        },
      ),
      { numRuns: 300 },
    );
  });

  test('refuses another magic, version, status, type, hash; lengths that disagree; something behind the end', async () => {
    const changes: [number, number, string][] = [
      [0, 0x49, 'parse/magic'],
      [4, 3, 'parse/unsupported-version'],
      [16, 1, 'parse/reserved'],
      [1220, 2, 'parse/unsupported-version'],
      [1224, 3, 'parse/unsupported-tee'],
      [1228, 9, 'parse/unsupported-algorithm'],
      [1232, 0x57, 'parse/length'],
      [8, 0, 'parse/length'],
      [1216, 0, 'parse/length'],
      [2599, 1, 'parse/leftover'],
    ];
    for (const [at, value, reason] of changes) {
      const blob = vector('tpm/az-snp.hcl-report.bin');
      blob[at] = value;
      expect(await parse(blob)).toEqual([reason]);
    }
    expect(await parse(new Uint8Array(1024 * 1024))).toEqual(['parse/length']);
    const huge = vector('tpm/az-snp.hcl-report.bin');
    huge.fill(0xff, 1232, 1236);
    expect(await parse(huge)).toEqual(['parse/length']);
  });

  test('refuses runtime data that names a key twice, no key, or a weak one', async () => {
    const cases: [string, (json: string) => string][] = [
      ['parse/duplicate', (json) => json.replace('{"keys"', '{"keys":[],"keys"')],
      ['parse/duplicate', (json) => json.replace('"e":"AQAB"', '"e":"AQAB","\\u0065":"Aw"')],
      ['parse/json', (json) => json.replace('HCLEkPub', 'HCLAkPub')],
      ['parse/json', (json) => json.replace('HCLAkPub', 'HCLXkPub')],
      ['parse/json', (json) => json.replace('{"keys":[', '{"keys":[null,')],
      ['parse/json', (json) => `[${json}]`],
      ['parse/json', (json) => json.slice(0, -1)],
      ['parse/json', (json) => json.replace('"secure-boot":true', '"secure-boot":"yes"')],
      ['parse/unsupported-key-type', (json) => json.replace('"AQAB"', '"Aw"')],
      ['parse/unsupported-key-type', (json) => json.replace('"RSA"', '"EC"')],
      ['parse/unsupported-key-type', (json) => json.replace(/"n":"[^"]{171}/, '"n":"')],
      ['parse/unsupported-key-type', (json) => json.replace(/"n":"/, '"n":"AAAA')],
      ['parse/length', (json) => json.replace(/"n":"/, '"n":"+')],
      ['parse/length', (json) => `${'['.repeat(200)}${json}${']'.repeat(200)}`],
    ];
    for (const [reason, change] of cases)
      expect([reason, ...(await parse(await withRuntimeData(change)))]).toEqual([reason, reason]);
  });

  test('members that look like a prototype change nothing', async () => {
    const add = (members: string) => withRuntimeData((json) => json.replace('{"keys"', `{${members},"keys"`));
    const report: HclReport = parseHclReport(await add('"constructor":{"user-data":"11"},"toString":1'));
    expect(report.vm.userData).toBe('00'.repeat(64));
    expect(await parse(await add('"__proto__":{"user-data":"11"}'))).toEqual(['parse/json']);
  });
});

function recordedFields(id: string): { pcrs: string[] } {
  const cases = JSON.parse(vectorText('tpm/cases.json')) as { id: string; fields: { pcrs: string[] } }[];
  const found = cases.find((entry) => entry.id === id);
  if (found === undefined) throw new Error(`no case ${id}`);
  return found.fields;
}
