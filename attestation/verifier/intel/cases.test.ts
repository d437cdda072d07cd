import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { Findings } from '../findings.ts';
import { checkTd } from './td-policy.ts';
import { verifyTdx } from './verify.ts';

const folder = new URL('../../vectors/tdx/', import.meta.url);
const read = (file: string) => readFileSync(new URL(file, folder));

interface Case {
  readonly id: string;
  readonly inputs: readonly [quote: string, collateral: string];
  readonly now: string;
  readonly expect: 'accept' | 'reject' | 'reject-by-default';
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly tcbStatus: string | null;
  readonly advisoryIDs: readonly string[] | null;
}
const cases = JSON.parse(read('cases.json').toString()) as readonly Case[];

/** What each refusal must be for; the cases say it in words. */
const REASONS: Readonly<Record<string, readonly string[]>> = {
  'v4-uptodate': [],
  'v4-collateral-expired': ['revocation/stale', 'collateral/expired', 'collateral/expired'],
  'v4-collateral-not-yet-valid': ['revocation/not-yet-valid', 'collateral/not-yet-valid', 'collateral/not-yet-valid'],
  'v4-wrong-fmspc': ['collateral/fmspc-mismatch'],
  'v4-no-tcb-level': ['tcb/no-level'],
  'v5-uptodate': [],
  'v5-pck-not-yet-valid': ['certificate/not-yet-valid'],
  'v4-outofdate': ['tcb/out-of-date'],
  'v4-uptodate-module-rule': [],
  'v4-debug-td': ['policy/debug'],
  'v4-spr-no-tcb-level': ['tcb/no-level', 'policy/attributes'],
  'v5-mrservicetd-no-level': ['tcb/no-level', 'policy/service-td'],
  'v4-gcp-uptodate-ita-nonce': [],
};

async function verify({ inputs: [quoteFile, collateralFile], now }: Case, acceptStatuses?: readonly ['OutOfDate']) {
  const findings = new Findings();
  const quote = parseTdxQuote(new Uint8Array(read(quoteFile)));
  const collateral = read(collateralFile).toString();
  const claims = await verifyTdx({ quote, collateral, now: new Date(now), acceptStatuses }, findings);
  await checkTd(quote.report, { septVeDisable: 'required', serviceTd: 'none' }, findings);
  return { claims, reasons: findings.failures.map(({ reason }) => reason) };
}

describe('recorded quotes and collateral', () => {
  test.each(cases.filter(({ id }) => id !== 'v3-sgx-wrong-tee'))('$id', async (subject) => {
    const { claims, reasons } = await verify(subject);
    expect(reasons).toEqual(REASONS[subject.id]);
    expect(reasons.length === 0).toBe(subject.expect === 'accept');
    if (subject.tcbStatus !== null)
      expect(claims.tcb).toMatchObject({ status: subject.tcbStatus, advisoryIds: subject.advisoryIDs });
    const { fields } = subject;
    if (fields === null) return;
    expect(claims).toMatchObject({
      quoteVersion: fields['version'],
      teeTcbSvn: fields['teeTcbSvn'],
      mrseam: fields['mrseam'],
      mrtd: fields['mrtd'],
      mrconfigid: fields['mrconfigid'],
      rtmrs: fields['rtmr'],
      reportData: fields['rd'],
      teeTcbSvn2: fields['teeTcbSvn2'] ?? null,
      mrservicetd: fields['mrservicetd'] ?? null,
      fmspc: fields['fmspc'],
      pceId: fields['pceid'],
      pceSvn: fields['pcesvn'],
      cpuSvnComponents: fields['cpusvnComponents'],
    });
    const reversed = (field: unknown) => String(field).match(/../g)?.toReversed().join('');
    expect([claims.tdAttributes, claims.xfam]).toEqual([reversed(fields['tdattr']), reversed(fields['xfam'])]);
  });

  test('a status that the policy accepts is no refusal', async () => {
    const subject = cases.find(({ id }) => id === 'v4-outofdate') as Case;
    const { claims, reasons } = await verify(subject, ['OutOfDate']);
    expect(reasons).toEqual([]);
    expect(claims.tcb).toMatchObject({
      status: 'OutOfDate',
      platformStatus: 'OutOfDate',
      sgxStatus: 'OutOfDate',
      qeStatus: 'UpToDate',
      moduleStatus: 'UpToDate',
    });
    expect(JSON.parse(JSON.stringify(claims))).toEqual(claims);
  });

  test('an SGX quote is refused as one', () => {
    const quote = new Uint8Array(read('quotes/v3-sgx-phala.bin'));
    expect(() => parseTdxQuote(quote)).toThrow(expect.objectContaining({ reason: 'parse/unsupported-tee' }));
  });
});
