import { beforeAll, expect, test } from 'vitest';
import { parseCrl } from '../../evidence/crl.ts';
import { parseTdxQuote, type TdxQuote } from '../../evidence/tdx.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import type { Issued } from '../../insecure/certificates.ts';
import { issueCrl, type CrlRequest } from '../../testing/crl.testkit.ts';
import { makeIntelAuthority, type IntelAuthority } from '../../testing/intel-authority.testkit.ts';
import { writeTdxQuote } from '../../testing/tdx-quote.testkit.ts';
import { Findings } from '../findings.ts';
import { checkOwnCrls } from './own-crls.ts';

let authority: IntelAuthority;
let quote: TdxQuote;
beforeAll(async () => {
  authority = await makeIntelAuthority();
  quote = parseTdxQuote(await writeTdxQuote(authority.pckChain));
});

const DATES = { thisUpdate: '2026-06-01T00:00:00Z', nextUpdate: '2026-07-01T00:00:00Z' };
async function reasons(issuer: Issued, request: Partial<CrlRequest> = {}, signer = issuer): Promise<string[]> {
  const findings = new Findings();
  const crl = parseCrl(await issueCrl(issuer, { ...DATES, ...request }, signer));
  await checkOwnCrls(quote, [crl], findings);
  expect(findings.list.length).toBeLessThanOrEqual(1);
  return findings.failures.map(({ reason }) => reason);
}
const serialOf = (issued: Issued | undefined) => ({ serial: parseCertificate(issued?.der ?? new Uint8Array()).serial });

test('lists that do not name the platform’s certificates refuse nothing, old ones neither', async () => {
  expect(await reasons(authority.pckCa)).toEqual([]);
  expect(await reasons(authority.rootCa, { nextUpdate: '2026-06-02T00:00:00Z' })).toEqual([]);
  expect(await reasons((await makeIntelAuthority({ pckCa: { commonName: 'another CA' } })).pckCa)).toEqual([]);
});

test('what they list is revoked, also in one that has ended', async () => {
  const [leaf] = authority.pckChain;
  expect(await reasons(authority.pckCa, { revoked: [serialOf(leaf)] })).toEqual(['certificate/revoked']);
  const old = { revoked: [serialOf(leaf)], nextUpdate: '2026-06-02T00:00:00Z' };
  expect(await reasons(authority.pckCa, old)).toEqual(['certificate/revoked']);
  expect(await reasons(authority.rootCa, { revoked: [serialOf(authority.pckCa)] })).toEqual(['certificate/revoked']);
});

test('one that the CA did not sign is refused', async () => {
  expect(await reasons(authority.pckCa, {}, authority.rootCa)).toEqual(['revocation/signature']);
});
