import { parseTdxQuote } from '../evidence/tdx.ts';
import { assembleEvidence } from './assemble.ts';
import type { Attester, CollectGpus } from './attester.ts';
import { readTsmReport, tsmDefaults, type TsmOptions } from './configfs-tsm.ts';

export interface TdxAttesterOptions extends Partial<TsmOptions> {
  readonly collectGpus: CollectGpus;
}

/**
 * Attester of an Intel TDX guest, through configfs-tsm. Quotes are made one at a time, because the platform does so too, and
 * cut to the bytes that are signed (Linux pads them).
 */
export function tdxAttester({ collectGpus, ...overrides }: TdxAttesterOptions): Attester {
  const options: TsmOptions = { ...tsmDefaults, ...overrides };
  let last: Promise<unknown> = Promise.resolve();
  const quoteOver = (reportData: Uint8Array): Promise<Uint8Array> => {
    const quote = last.then(async () => {
      const bytes = await readTsmReport(reportData, 'tdx_guest', options);
      return bytes.subarray(0, parseTdxQuote(bytes).quoteBytes);
    });
    last = quote.catch(() => undefined); // one failure does not stop the next
    return quote;
  };
  return {
    tee: 'tdx',
    collect: (nonce, workerKeys) => assembleEvidence('tdx', nonce, workerKeys, collectGpus, quoteOver),
  };
}
