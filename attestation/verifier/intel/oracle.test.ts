import { readdirSync, readFileSync } from 'node:fs';
import { verify as verifyByOracle, type Collateral } from '@phala/dcap-qvl';
import { describe, expect, test } from 'vitest';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { Findings } from '../findings.ts';
import { verifyTdx } from './verify.ts';

const folder = new URL('../../vectors/tdx/', import.meta.url);
const quotes = readdirSync(new URL('quotes/', folder)).filter(
  (name) => /^v[45]/.test(name) && !name.includes('sample'),
);
const collaterals = readdirSync(new URL('collateral/', folder)).filter((name) => !name.startsWith('sgx'));
const times = ['2023-06-30', '2025-02-20', '2025-06-25', '2025-10-25', '2026-02-25'].map((day) => new Date(day));

const read = (path: string) => readFileSync(new URL(path, folder));

async function ours(quoteFile: string, collateral: string, now: Date): Promise<string> {
  const findings = new Findings();
  const quote = parseTdxQuote(new Uint8Array(read(`quotes/${quoteFile}`)));
  const { tcb } = await verifyTdx({ quote, collateral, now, acceptStatuses: ANY }, findings);
  return findings.failures.length > 0 ? 'refused' : `${tcb?.status} ${tcb?.advisoryIds.join()}`;
}
const ANY = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
] as const;

function theirs(quoteFile: string, collateral: string, now: Date): string {
  const members = JSON.parse(collateral) as Record<keyof Collateral, string>;
  const bytes = (text: string): number[] => [...Buffer.from(text, 'hex')];
  try {
    const { status, advisory_ids } = verifyByOracle(
      read(`quotes/${quoteFile}`),
      {
        ...members,
        root_ca_crl: bytes(members['root_ca_crl']),
        pck_crl: bytes(members['pck_crl']),
        tcb_info_signature: bytes(members['tcb_info_signature']),
        qe_identity_signature: bytes(members['qe_identity_signature']),
      },
      now.getTime() / 1000,
    );
    return `${status} ${advisory_ids.toSorted().join()}`;
  } catch {
    return 'refused';
  }
}

/** Where the oracle is wrong, and why. */
function oracleErrs(quoteFile: string, collateralFile: string, mine: string): string | undefined {
  if (quoteFile === 'v4-cos113-00806f05.bin' && collateralFile.startsWith('00806f05') && mine.startsWith('UpToDate'))
    return 'it compares module SVNs with the levels of the platform, though the module has levels of its own';
  if (quoteFile === 'v4-trustee-debug-50806f.bin') return 'it refuses debugging itself, which is policy here';
  return undefined;
}

describe('every quote with every collateral at every time: as @phala/dcap-qvl says', () => {
  test.each(quotes)('%s', async (quoteFile) => {
    let compared = 0;
    for (const collateralFile of collaterals) {
      const collateral = read(`collateral/${collateralFile}`).toString();
      for (const now of times) {
        const mine = await ours(quoteFile, collateral, now);
        if (oracleErrs(quoteFile, collateralFile, mine) !== undefined) continue;
        expect([collateralFile, now, mine]).toEqual([collateralFile, now, theirs(quoteFile, collateral, now)]);
        compared++;
      }
    }
    expect(quoteFile.includes('debug') || compared > 20).toBe(true);
  });
});
