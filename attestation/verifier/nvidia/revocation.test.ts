import { beforeAll, describe, expect, test } from 'vitest';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import type { Issued } from '../../insecure/certificates.ts';
import { Findings } from '../findings.ts';
import { certificatesOf, issueChain, OCSP_STATUS, writeOcsp, type Chain, type OcspParts } from './authority.fixture.ts';
import { openRevocation } from './revocation.ts';

const NOW = new Date('2025-10-24T12:00:00Z');
const STALE = { thisUpdate: '20251020110000Z', producedAt: '20251020110000Z', nextUpdate: '20251021110000Z' };
const FUTURE = { thisUpdate: '20251030110000Z', producedAt: '20251030110000Z', nextUpdate: '20251031110000Z' };

let chain: Chain;
let leaf: Issued;
let issuer: Issued;
beforeAll(async () => {
  chain = await issueChain(['leaf', 'root']);
  const [first, second] = chain.issued;
  if (first === undefined || second === undefined) throw new RangeError('two');
  [leaf, issuer] = [first, second];
});

async function reasons(answers: readonly Partial<OcspParts>[], holdTolerated = false): Promise<string[]> {
  const written = await Promise.all(answers.map((parts) => writeOcsp({ certificate: leaf, issuer, ...parts })));
  const findings = new Findings();
  const demand = 'required';
  const ocsp = written.map(parseOcspResponse);
  const revocation = openRevocation({ ocsp, crls: [], demand, holdTolerated, now: NOW });
  await revocation.check(certificatesOf(chain), 0, 'chain', findings);
  await revocation.finish(findings);
  return findings.failures.map(({ reason }) => reason);
}

describe('several OCSP answers for one certificate', () => {
  const revoked = { status: OCSP_STATUS.revoked(1) };
  const held = { status: OCSP_STATUS.revoked(6) };
  test.each<[string, readonly Partial<OcspParts>[], readonly string[]]>([
    ['a good one that counts decides over one that has ended', [STALE, {}], []],
    ['and over one that does not count yet', [{}, FUTURE], []],
    ['none that counts', [STALE, FUTURE], ['revocation/stale']],
    ['none at all', [], ['revocation/missing']],
    ['one that says revoked is not outvoted', [{}, revoked], ['certificate/revoked']],
    ['not even when it has ended', [{ ...STALE, ...revoked }, {}], ['certificate/revoked']],
    ['unknown is not outvoted', [{}, { status: OCSP_STATUS.unknown }], ['revocation/status-unknown']],
    ['a hold that counts', [{}, held], ['revocation/hold']],
    ['a hold that was lifted since', [{ ...STALE, ...held }, {}], []],
  ])('%s', async (_name, answers, expected) => {
    expect(await reasons(answers)).toEqual(expected);
    expect(await reasons(answers.toReversed())).toEqual(
      expected[0] === 'revocation/stale' ? ['revocation/not-yet-valid'] : expected,
    );
  });

  test('one that the issuer did not sign refuses, whatever it says', async () => {
    const [other] = (await issueChain(['leaf', 'root'])).issued.slice(1);
    if (other === undefined) throw new RangeError('two');
    expect(await reasons([{ ...STALE, responder: { ...issuer, keys: other.keys } }, {}])).not.toEqual([]);
  });
});
