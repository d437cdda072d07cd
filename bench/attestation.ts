import { readFileSync } from 'node:fs';
import { verify as verifyByReference, type Collateral } from '@phala/dcap-qvl';
import { parseTdxQuote } from '../attestation/evidence/tdx.ts';
import { Findings } from '../attestation/verifier/findings.ts';
import { verifyTdx } from '../attestation/verifier/intel/verify.ts';
import { nvidiaRows } from './attestation-nvidia.ts';
import { snpRows } from './attestation-snp.ts';
import { alternate, median } from './measure.ts';
import type { Row } from './row.ts';

const vectors = new URL('../attestation/vectors/', import.meta.url);
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, vectors)));

/** Verifying evidence from its bytes, offline, one after the other. */
export async function attestation(): Promise<Row[]> {
  return [...(await tdx()), ...(await snpRows()), ...(await nvidiaRows())];
}

/** Against @phala/dcap-qvl, which keeps nothing between calls. */
async function tdx(): Promise<Row[]> {
  const quote = read('tdx/quotes/v4-phala-b0c06f.bin');
  const document = new TextDecoder().decode(read('tdx/collateral/b0c06f-2025-06.json'));
  const now = new Date('2025-06-25T00:00:00Z');
  const verify = async (collateral: string): Promise<void> => {
    const findings = new Findings();
    const { tcb } = await verifyTdx({ quote: parseTdxQuote(quote), collateral, now }, findings);
    if (findings.failures.length > 0 || tcb?.status !== 'UpToDate') throw new Error('the quote is refused');
  };
  let calls = 0;
  // Another document each time, so that none is found verified; Intel's CA keys are known from the first on.
  const cold = (): Promise<void> => verify(document + ' '.repeat(++calls));
  const cached = (): Promise<void> => verify(document);
  const reference = (): Promise<void> => {
    const { status } = verifyByReference(quote, JSON.parse(document) as Collateral, now.getTime() / 1000);
    return status === 'UpToDate' ? Promise.resolve() : Promise.reject(new Error('the reference refuses the quote'));
  };
  return [
    await latency('TDX quote, collateral parsed anew', cold, 6, reference),
    await latency('TDX quote, collateral verified before', cached, 1.5, reference),
  ];
}

/** Median latency against a goal, and beside the reference where there is one. */
async function latency(
  row: string,
  ours: () => Promise<void>,
  goalMs: number,
  reference: () => Promise<void>,
): Promise<Row> {
  const { a, b } = await alternate(ours, reference, { rounds: 7, count: 60, concurrency: 1, warmUp: 15 });
  const medians = a.map(({ p50 }) => p50);
  const value = median(medians);
  return {
    row,
    unit: 'ms',
    ours: value,
    reference: median(b.map(({ p50 }) => p50)),
    ratio: median(a.map(({ p50 }, i) => p50 / (b[i]?.p50 ?? Number.NaN))),
    spread: [Math.min(...medians), Math.max(...medians)],
    goal: `≤ ${goalMs} ms`,
    met: value <= goalMs,
  };
}
