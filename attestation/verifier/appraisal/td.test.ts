import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromBase64url } from '../../../proto/index.ts';
import { appraisalFixture } from '../../appraisal.fixture.ts';
import { parseTdxQuote, type QeReport, type TdxQuote } from '../../evidence/tdx.ts';
import type { Reason } from '../../evidence/reasons.ts';
import { Findings } from '../findings.ts';
import { parsePolicy, type AppraisalPolicy } from '../policy/policy.ts';
import type { TdPolicy } from '../policy/tee.ts';
import { INTEL_QE_SIGNER } from '../trust-anchors.ts';
import { appraiseTd } from './td.ts';

const read = (path: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../vectors/tdx/${path}`, import.meta.url)));

async function reasons(input: Parameters<typeof appraiseTd>[0]): Promise<readonly [string, Reason][]> {
  const findings = new Findings();
  await appraiseTd(input, findings);
  return findings.failures.map(({ check, reason }) => [check, reason]);
}

describe('a quoting enclave whose identity no vendor signed for us', () => {
  let simulated: TdPolicy;
  let quote: TdxQuote;
  let close: () => Promise<void>;
  beforeAll(async () => {
    const fixture = await appraisalFixture();
    close = fixture.close;
    quote = parseTdxQuote(fromBase64url(fixture.evidence.quote));
    if (fixture.policy.tee.kind !== 'simulated') throw new Error('the fixture is simulated');
    simulated = fixture.policy.tee;
  });
  afterAll(() => close());

  const now = new Date('2026-11-01T00:00:00Z');
  const at = (place: number, value: number): Uint8Array =>
    Uint8Array.from({ length: 16 }, (_, i) => (i === place ? value : 0));
  /** Only the identity is looked at: what the enclave signs changes with its report. */
  async function identity(changes: Partial<QeReport>, policy = simulated): Promise<Reason | 'passed'> {
    const changed = { ...quote, qeReport: { ...quote.qeReport, ...changes } };
    const all = await reasons({ quote: changed, policy, collateral: [], now });
    return all.find(([check]) => check === 'quoting enclave: identity')?.[1] ?? 'passed';
  }

  test('is the simulated one on a simulated platform, and Intel’s on a real one', async () => {
    expect(await identity({})).toBe('passed');
    expect(await identity({ mrsigner: new Uint8Array(32) })).toBe('tcb/qe-identity');
    expect(await identity({ mrsigner: INTEL_QE_SIGNER })).toBe('tcb/qe-identity');
    if (simulated.kind !== 'simulated') throw new Error('the fixture is simulated');
    const { root: _, ...demands } = simulated;
    const real: TdPolicy = { ...demands, kind: 'tdx', collateral: { notChecked: 'a test' } };
    expect(await identity({}, real)).toBe('tcb/qe-identity');
    expect(await identity({ mrsigner: INTEL_QE_SIGNER }, real)).toBe('passed');
  });

  test('is refused as another product, with debugging, and with attributes that nobody knows', async () => {
    expect(await identity({ isvProdId: 1 })).toBe('tcb/qe-identity'); // Intel's SGX quoting enclave
    expect(await identity({ attributes: at(0, 0x13) })).toBe('tcb/qe-identity');
    expect(await identity({ attributes: at(0, 0x01) })).toBe('tcb/qe-identity');
    expect(await identity({ attributes: new Uint8Array(16).fill(0x11) })).toBe('tcb/qe-identity');
    expect(await identity({ attributes: at(0, 0x15) })).toBe('passed'); // 64-bit mode: masked out
    expect(await identity({ miscSelect: 1 })).toBe('tcb/qe-identity');
  });
});

describe('demands on the platform', () => {
  const collateral = [new TextDecoder().decode(read('collateral/00806f05-2025-02.json'))];
  const now = new Date('2025-02-20T00:00:00Z');
  const outdated = parseTdxQuote(read('quotes/v4-zkdcap-00806f05.bin'));
  const current = parseTdxQuote(read('quotes/v4-cos113-00806f05.bin'));
  const unknown = { notChecked: 'a test' };
  const policy = (demands: object): TdPolicy => {
    const registers = ['mrtd', 'mrseam', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3', 'mrconfigid', 'mrowner', 'mrownerconfig'];
    const value: AppraisalPolicy = parsePolicy({
      format: 'cfn/appraisal-policy/v2',
      name: 'test',
      tee: {
        kind: 'tdx',
        septVeDisable: 'required',
        ...Object.fromEntries(registers.map((name) => [name, unknown])),
        mrservicetd: 'none',
        collateral: { statuses: ['UpToDate'], evaluationNumberMin: unknown, advisories: unknown, ...demands },
      },
      gpu: { notRequired: 'a test' },
      binding: { notRequired: 'a test' },
      tpm: { notRequired: 'a test' },
      token: { notRequired: 'a test' },
    });
    if (value.tee.kind !== 'tdx') throw new Error('the policy is for TDX');
    return value.tee;
  };
  const ask = async (quote: TdxQuote, demands: object): Promise<Reason[]> =>
    (await reasons({ quote, policy: policy(demands), collateral, now })).map(([, reason]) => reason);

  test('statuses: only the listed ones; an empty list accepts nothing', async () => {
    expect(await ask(current, {})).toEqual([]);
    expect(await ask(outdated, {})).toEqual(['tcb/out-of-date']);
    expect(await ask(outdated, { statuses: ['UpToDate', 'OutOfDate'] })).toEqual([]);
    expect(await ask(current, { statuses: [] })).toEqual(['tcb/below-minimum']);
  });

  test('advisories: allowed, and denied', async () => {
    const statuses = ['OutOfDate'];
    const all = ['INTEL-SA-00960', 'INTEL-SA-00982', 'INTEL-SA-00986'];
    expect(await ask(outdated, { statuses, advisories: { allowed: all } })).toEqual([]);
    expect(await ask(outdated, { statuses, advisories: { allowed: all.slice(1) } })).toEqual(['tcb/advisory']);
    expect(await ask(outdated, { statuses, advisories: { denied: [] } })).toEqual([]);
    expect(await ask(outdated, { statuses, advisories: { denied: all.slice(0, 1) } })).toEqual(['tcb/advisory']);
    expect(await ask(current, { advisories: { allowed: [] } })).toEqual([]);
  });

  test('the least evaluation data number', async () => {
    expect(await ask(current, { evaluationNumberMin: 17 })).toEqual([]);
    expect(await ask(current, { evaluationNumberMin: 18 })).toEqual(['collateral/evaluation-number']);
  });

  test('collateral: none is refused, and of several the platform’s own is taken', async () => {
    const missing = await reasons({ quote: current, policy: policy({}), collateral: [], now });
    expect(missing).toEqual([['collateral', 'collateral/missing']]);
    const other = new TextDecoder().decode(read('collateral/b0c06f-2025-06.json'));
    expect(await reasons({ quote: current, policy: policy({}), collateral: [other, ...collateral], now })).toEqual([]);
  });
});
