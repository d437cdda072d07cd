import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { CfnError, toHex } from '../../../proto/index.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { issueCertificate, toPem } from '../../insecure/certificates.ts';
import {
  collateralDocument,
  collateralMembers,
  level,
  makeIntelAuthority,
  moduleIdentity,
  NOW,
  qeIdentity,
  tcbInfo,
  type AuthorityOptions,
  type CollateralOptions,
  type IntelAuthority,
} from '../../testing/intel-authority.testkit.ts';
import { writeTdxQuote, type QuoteFields } from '../../testing/tdx-quote.testkit.ts';
import { Findings } from '../findings.ts';
import type { TcbStatus } from './tcb-status.ts';
import { checkTd, type TdDemands } from './td-policy.ts';
import { verifyTdx, type TdxInput } from './verify.ts';

let authority: IntelAuthority;
let quote: Uint8Array;
let collateral: string;
beforeAll(async () => {
  authority = await makeIntelAuthority();
  quote = await writeTdxQuote(authority.pckChain);
  collateral = await collateralDocument(authority);
});

/** Reasons of all refusals. */
async function reasons(changed: Partial<Omit<TdxInput, 'quote'>> & { quote?: Uint8Array } = {}): Promise<string[]> {
  const findings = new Findings();
  const { quote: bytes = quote, ...rest } = changed;
  await verifyTdx({ collateral, now: NOW, root: authority.root, ...rest, quote: parseTdxQuote(bytes) }, findings);
  return findings.failures.map(({ reason }) => reason);
}
const withCollateral = async (options: CollateralOptions, more: Partial<Omit<TdxInput, 'quote'>> = {}) =>
  reasons({ collateral: await collateralDocument(authority, options), ...more });
const withQuote = async (fields: QuoteFields) => reasons({ quote: await writeTdxQuote(authority.pckChain, fields) });
const serialOf = (der: Uint8Array) => parseCertificate(der).serial;

describe('verifyTdx', () => {
  test('accepts what is in order, with collateral seen for the first and the second time', async () => {
    const first = new Findings();
    const second = new Findings();
    const fresh = await collateralDocument(authority);
    for (const findings of [first, second])
      await verifyTdx({ quote: parseTdxQuote(quote), collateral: fresh, now: NOW, root: authority.root }, findings);
    expect(first.failures).toEqual([]);
    expect(second.list).toEqual(first.list);
    expect(
      await reasons({ quote: await writeTdxQuote(authority.pckChain, { version: 5, teeTcbSvn2: [5, 1, 3] }) }),
    ).toEqual([]);
    expect(await withQuote({ qe: { authenticationData: new Uint8Array() } })).toEqual([]);
    expect(await withQuote({ qe: { authenticationData: new Uint8Array(1000) } })).toEqual([]);
  });

  test("refuses a chain that does not end at Intel's root", async () => {
    expect(await reasons({ root: undefined })).toEqual([
      'certificate/untrusted-root',
      'certificate/untrusted-root',
      'certificate/untrusted-root',
      'certificate/untrusted-root',
    ]);
  });

  test('refuses a quote without collateral, unless its absence is a policy', async () => {
    expect(await reasons({ collateral: undefined })).toEqual(['collateral/missing']);
    const findings = new Findings();
    const left = { notChecked: 'simulated' };
    const claims = await verifyTdx(
      { quote: parseTdxQuote(quote), collateral: left, now: NOW, root: authority.root },
      findings,
    );
    expect(claims.tcb).toBeNull();
    expect(findings.list.at(-1)).toEqual({ check: 'collateral', outcome: 'skipped', detail: 'simulated' });
  });

  describe('signatures of the quote', () => {
    const lengths = { header: 48, body: 584 };
    test('the attestation key', async () => {
      for (const at of [12 + 16, lengths.header, lengths.header + 136, lengths.header + 583]) {
        const altered = quote.slice();
        altered[at] = (altered[at] ?? 0) ^ 1;
        expect(await reasons({ quote: altered })).toContain('evidence/quote-signature');
      }
      const signature = quote.slice();
      signature[636] = (signature[636] ?? 0) ^ 1;
      expect(await reasons({ quote: signature })).toEqual(['evidence/quote-signature']);
    });

    test('the PCK key', async () => {
      const other = (await makeIntelAuthority()).pckChain[0];
      const forged = await writeTdxQuote(authority.pckChain, {}, other?.keys.privateKey);
      expect(await reasons({ quote: forged })).toEqual(['evidence/qe-report-signature']);
    });

    test('the binding of the attestation key, all 64 bytes', async () => {
      expect(await withQuote({ qe: { reportData: new Uint8Array(64) } })).toEqual(['evidence/attestation-key-binding']);
      const bound = parseTdxQuote(quote).qeReport.reportData;
      expect(await withQuote({ qe: { reportData: bound } })).toEqual(['evidence/attestation-key-binding']);
      const authenticationData = quote.slice();
      const at = 636 + 134 + 384 + 64 + 2;
      authenticationData[at] = (authenticationData[at] ?? 0) ^ 1;
      expect(await reasons({ quote: authenticationData })).toEqual(['evidence/attestation-key-binding']);
    });
  });

  describe('certificates', () => {
    const withAuthority = async (options: AuthorityOptions, now = NOW) => {
      const other = await makeIntelAuthority(options);
      const input = { collateral: await collateralDocument(other), root: other.root, now };
      return reasons({ ...input, quote: await writeTdxQuote(other.pckChain) });
    };
    const past = { notAfter: '2026-06-14T23:59:59Z' };
    const future = { notBefore: '2026-06-15T00:00:01Z' };

    test.each<[string, AuthorityOptions, string[]]>([
      ['an expired PCK certificate', { leaf: past }, ['certificate/expired']],
      ['a PCK certificate of tomorrow', { leaf: future }, ['certificate/not-yet-valid']],
      ['an expired PCK CA', { pckCa: past }, ['certificate/expired', 'certificate/expired']],
      ['an expired TCB signer', { tcbSigner: past }, ['certificate/expired']],
      ['a TCB signer of tomorrow', { tcbSigner: future }, ['certificate/not-yet-valid']],
      ['an expired root', { root: past }, ['certificate/expired', 'certificate/expired']],
      ['a PCK certificate of another name', { leaf: { commonName: 'SGX TCB Signing' } }, ['certificate/wrong-role']],
      [
        'a TCB signer of another name',
        { tcbSigner: { commonName: 'SGX PCK Certificate' } },
        ['certificate/wrong-role', 'certificate/wrong-role'],
      ],
      ['a TCB signer that is a CA', { tcbSigner: { isCa: true } }, ['certificate/ca-flag', 'certificate/ca-flag']],
      ['a PCK CA that is none', { pckCa: { isCa: false } }, ['certificate/ca-flag', 'certificate/ca-flag']],
    ])('%s', async (_name, options, expected) => {
      expect(await withAuthority(options)).toEqual(expected);
    });

    test('a chain of another length, and a leaf without the SGX extension', async () => {
      const [leaf, ca, root] = authority.pckChain;
      if (leaf === undefined || ca === undefined || root === undefined) throw new TypeError('three certificates');
      const short = await writeTdxQuote([leaf, root]);
      await expect(reasons({ quote: short })).rejects.toMatchObject({ reason: 'certificate/missing-intermediate' });
      const plain = await issueCertificate({ ...leaf.request, extensions: {} }, ca);
      const quoteOfPlain = await writeTdxQuote([plain, ca, root]);
      await expect(reasons({ quote: quoteOfPlain })).rejects.toMatchObject({ reason: 'certificate/wrong-role' });
    });

    test("a TCB signer's chain in place of a platform's", async () => {
      const { pckChain } = authority;
      const [, , root] = pckChain;
      const impostor = await issueCertificate({ ...authority.tcbSigner.request }, authority.pckCa);
      if (root === undefined) throw new TypeError('a root');
      const made = await writeTdxQuote([impostor, authority.pckCa, root]);
      await expect(reasons({ quote: made })).rejects.toMatchObject({ reason: 'certificate/wrong-role' });
    });
  });

  describe('revocation', () => {
    test('of the PCK certificate, the PCK CA and the TCB signer', async () => {
      const [leaf, ca] = authority.pckChain;
      if (leaf === undefined || ca === undefined) throw new TypeError('two certificates');
      const revoked = (der: Uint8Array) => ({ revoked: [{ serial: serialOf(der) }] });
      expect(await withCollateral({ pckCrl: revoked(leaf.der) })).toEqual(['certificate/revoked']);
      expect(await withCollateral({ rootCrl: revoked(ca.der) })).toEqual(['certificate/revoked']);
      expect(await withCollateral({ rootCrl: revoked(authority.tcbSigner.der) })).toEqual(['certificate/revoked']);
      expect(await withCollateral({ pckCrl: { revoked: [{ serial: Uint8Array.of(1) }] } })).toEqual([]);
    });

    test('forged lists: another key, an edited entry, an empty list in place of a full one', async () => {
      const other = await makeIntelAuthority();
      expect(await withCollateral({ pckCrlSigner: other.pckCa })).toEqual(['revocation/signature']);
      expect(await withCollateral({ rootCrlSigner: other.rootCa })).toEqual(['revocation/signature']);
      const [leaf] = authority.pckChain;
      if (leaf === undefined) throw new TypeError('a leaf');
      const serial = toHex(serialOf(leaf.der));
      const members = await collateralMembers(authority, { pckCrl: { revoked: [{ serial: serialOf(leaf.der) }] } });
      const edited = members['pck_crl']?.replace(serial, serial.replace(/..$/, '55'));
      expect(edited).not.toBe(members['pck_crl']);
      expect(await reasons({ collateral: JSON.stringify({ ...members, pck_crl: edited }) })).toEqual([
        'revocation/signature',
      ]);
    });

    test('lists of another issuer', async () => {
      const members = await collateralMembers(authority);
      const { pck_crl, root_ca_crl } = members;
      const swapped = { ...members, pck_crl: root_ca_crl, root_ca_crl: pck_crl };
      expect(await reasons({ collateral: JSON.stringify(swapped) })).toEqual([
        'revocation/wrong-issuer',
        'revocation/wrong-issuer',
      ]);
    });

    test("a CRL of a CA with the PCK CA's name under the same root", async () => {
      const twin = await issueCertificate(authority.pckCa.request, authority.rootCa);
      expect(await reasons({ collateral: await collateralDocument({ ...authority, pckCa: twin }) })).toEqual([
        'revocation/wrong-issuer',
      ]);
    });

    test('from the first to the last moment', async () => {
      const dates = { thisUpdate: '2026-06-10T00:00:00Z', nextUpdate: '2026-06-20T00:00:00Z' };
      const at = (now: string, options: CollateralOptions) => withCollateral(options, { now: new Date(now) });
      for (const options of [{ pckCrl: dates }, { rootCrl: dates }]) {
        expect(await at('2026-06-10T00:00:00Z', options)).toEqual([]);
        expect(await at('2026-06-20T00:00:00Z', options)).toEqual([]);
        expect(await at('2026-06-09T23:59:59.999Z', options)).toEqual(['revocation/not-yet-valid']);
        expect(await at('2026-06-20T00:00:00.001Z', options)).toEqual(['revocation/stale']);
      }
    });
  });

  describe('TCB info and QE identity', () => {
    test('from the first to the last moment, also when the collateral was verified before', async () => {
      const dates = { issueDate: '2026-06-10T00:00:00Z', nextUpdate: '2026-06-20T00:00:00Z' };
      for (const options of [{ tcbInfo: tcbInfo(dates) }, { qeIdentity: qeIdentity(dates) }]) {
        const document = await collateralDocument(authority, options);
        const at = (now: string) => reasons({ collateral: document, now: new Date(now) });
        expect(await at('2026-06-10T00:00:00Z')).toEqual([]);
        expect(await at('2026-06-20T00:00:00Z')).toEqual([]);
        expect(await at('2026-06-09T23:59:59.999Z')).toEqual(['collateral/not-yet-valid']);
        expect(await at('2026-06-20T00:00:00.001Z')).toEqual(['collateral/expired']);
      }
    });

    test('signed by another key, also under a chain of its own', async () => {
      const other = await makeIntelAuthority();
      expect(await withCollateral({ signer: other.tcbSigner })).toEqual([
        'collateral/tcb-info-signature',
        'collateral/qe-identity-signature',
      ]);
      const foreign = await collateralMembers(other);
      const mixed = {
        ...(await collateralMembers(authority)),
        tcb_info: foreign['tcb_info'],
        tcb_info_signature: foreign['tcb_info_signature'],
        tcb_info_issuer_chain: foreign['tcb_info_issuer_chain'],
      };
      expect(await reasons({ collateral: JSON.stringify(mixed) })).toContain('certificate/untrusted-root');
    });

    test('written anew, with one space more', async () => {
      const members = await collateralMembers(authority);
      const spaced = { ...members, tcb_info: members['tcb_info']?.replace('":', '": ') };
      expect(await reasons({ collateral: JSON.stringify(spaced) })).toEqual(['collateral/tcb-info-signature']);
    });

    test("a platform's key may not sign what counts for all platforms", async () => {
      const [leaf] = authority.pckChain;
      if (leaf === undefined) throw new TypeError('a leaf');
      const members = await collateralMembers(authority, { signer: leaf });
      const chain = toPem(authority.pckChain.map(({ der }) => der));
      const forged = { ...members, tcb_info_issuer_chain: chain, qe_identity_issuer_chain: chain };
      expect(await reasons({ collateral: JSON.stringify(forged) })).toEqual([
        'certificate/wrong-role',
        'certificate/wrong-role',
      ]);
    });

    test.each<[string, CollateralOptions, string]>([
      ['another FMSPC', { tcbInfo: tcbInfo({ fmspc: '00906ED50001' }) }, 'collateral/fmspc-mismatch'],
      ['another PCE-ID', { tcbInfo: tcbInfo({ pceId: '0001' }) }, 'collateral/pceid-mismatch'],
      ['SGX', { tcbInfo: tcbInfo({ id: 'SGX' }) }, 'collateral/wrong-id'],
      ['version 2', { tcbInfo: tcbInfo({ version: 2 }) }, 'collateral/wrong-version'],
      ['QE', { qeIdentity: qeIdentity({ id: 'QE' }) }, 'collateral/wrong-id'],
      ['version 1', { qeIdentity: qeIdentity({ version: 1 }) }, 'collateral/wrong-version'],
      ['another module', { tcbInfo: tcbInfo({ tdxModuleIdentities: [] }) }, 'tcb/module-unknown'],
    ])('of %s', async (_name, options, reason) => {
      expect(await withCollateral(options)).toContain(reason);
    });

    test('evaluation data numbers below the minimum', async () => {
      expect(await reasons({ tcbEvaluationDataNumberMin: 17 })).toEqual([]);
      expect(await reasons({ tcbEvaluationDataNumberMin: 18 })).toEqual(['collateral/evaluation-number']);
      const older = { qeIdentity: qeIdentity({ tcbEvaluationDataNumber: 16 }) };
      expect(await withCollateral(older, { tcbEvaluationDataNumberMin: 17 })).toEqual(['collateral/evaluation-number']);
    });
  });

  describe('status', () => {
    test.each<[TcbStatus, string]>([
      ['SWHardeningNeeded', 'tcb/sw-hardening-needed'],
      ['ConfigurationNeeded', 'tcb/configuration-needed'],
      ['ConfigurationAndSWHardeningNeeded', 'tcb/configuration-and-sw-hardening-needed'],
      ['OutOfDate', 'tcb/out-of-date'],
      ['OutOfDateConfigurationNeeded', 'tcb/out-of-date-configuration-needed'],
      ['Revoked', 'tcb/revoked'],
    ])('%s is refused, and accepted by a policy that lists it', async (status, reason) => {
      const options = { tcbInfo: tcbInfo({ tcbLevels: [level({ status: status as 'Revoked' })] }) };
      expect(await withCollateral(options)).toEqual([reason]);
      expect(await withCollateral(options, { acceptStatuses: ['UpToDate', status] })).toEqual([]);
    });

    test('relaunch', async () => {
      const relaunch = { version: 5, teeTcbSvn: [4, 1, 3], teeTcbSvn2: [5, 1, 3] } as const;
      expect(await withQuote(relaunch)).toEqual(['tcb/relaunch-advised']);
      const options = { tcbInfo: tcbInfo({ tcbLevels: [level({ status: 'ConfigurationNeeded' })] }) };
      const made = await writeTdxQuote(authority.pckChain, relaunch);
      const document = await collateralDocument(authority, options);
      expect(await reasons({ quote: made, collateral: document })).toEqual([
        'tcb/relaunch-advised-configuration-needed',
      ]);
      expect(await withQuote({ ...relaunch, teeTcbSvn2: [5, 9, 3] })).toEqual(['tcb/module-unknown']);
    });

    test('an empty list accepts nothing', async () => {
      expect(await reasons({ acceptStatuses: [] })).toEqual(['tcb/below-minimum']);
    });

    test('no level, for platform, module and quoting enclave', async () => {
      const unreachable = { tcbInfo: tcbInfo({ tcbLevels: [level({ pcesvn: 99, status: 'UpToDate' })] }) };
      expect(await withCollateral(unreachable)).toEqual(['tcb/no-level']);
      const module = moduleIdentity(1, [{ isvsvn: 6, status: 'UpToDate' }]);
      expect(await withCollateral({ tcbInfo: tcbInfo({ tdxModuleIdentities: [module] }) })).toEqual(['tcb/no-level']);
      expect(await withQuote({ qe: { isvSvn: 1 } })).toEqual(['tcb/qe-svn']);
      expect(await withQuote({ qe: { mrsigner: new Uint8Array(32) } })).toEqual(['tcb/qe-identity']);
    });
  });
});

describe('mutations', () => {
  const folder = new URL('../../vectors/tdx/', import.meta.url);
  const real = new Uint8Array(readFileSync(new URL('quotes/v5-go-tdx-guest-90c06f.bin', folder)));
  const realCollateral = readFileSync(new URL('collateral/90c06f-2026-02.json', folder), 'utf8');
  const now = new Date('2026-02-25T00:00:00Z');

  async function isRefused(bytes: Uint8Array, document: string): Promise<boolean> {
    const findings = new Findings();
    try {
      await verifyTdx({ quote: parseTdxQuote(bytes), collateral: document, now }, findings);
    } catch (error) {
      expect(error).toBeInstanceOf(CfnError);
      return true;
    }
    return findings.failures.length > 0;
  }

  test('any bit of the quote, but for white space of its PEM', async () => {
    expect(await isRefused(real, realCollateral)).toBe(false);
    const pem = 54 + 648 + 4 + 134 + 384 + 64 + 2 + 32 + 6;
    await fc.assert(
      fc.asyncProperty(fc.nat(pem - 1), fc.nat(7), async (at, bit) => {
        expect(await isRefused(real.with(at, (real[at] ?? 0) ^ (1 << bit)), realCollateral)).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  test('any digit or character of what the collateral signs', async () => {
    const members = JSON.parse(realCollateral) as Record<string, string>;
    const names = ['tcb_info', 'tcb_info_signature', 'qe_identity', 'qe_identity_signature', 'pck_crl', 'root_ca_crl'];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.nat(),
        fc.constantFrom(...[...Array(16).keys()].map((n) => n.toString(16))),
        async (name, n, digit) => {
          const value = members[name] ?? '';
          const at = n % value.length;
          fc.pre(value[at]?.toLowerCase() !== digit);
          const altered = value.slice(0, at) + digit + value.slice(at + 1);
          expect(await isRefused(real, JSON.stringify({ ...members, [name]: altered }))).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('checkTd', () => {
  const all: TdDemands = { septVeDisable: 'required', serviceTd: 'none' };
  const check = async (fields: QuoteFields, demands = all) => {
    const findings = new Findings();
    await checkTd(parseTdxQuote(await writeTdxQuote(authority.pckChain, fields)).report, demands, findings);
    return findings.failures.map(({ reason }) => reason);
  };
  const sept = 1n << 28n;
  const report15: QuoteFields = { version: 5, teeTcbSvn2: [] };

  test('accepts production, with every attribute that a TD may have', async () => {
    expect(await check({})).toEqual([]);
    expect(await check({ tdAttributes: sept | (1n << 30n) | (1n << 31n) | (1n << 63n), xfam: 0x6dbe7n })).toEqual([]);
    expect(await check(report15)).toEqual([]);
  });

  test.each<[string, QuoteFields, string[]]>([
    ['debugging', { tdAttributes: sept | 1n }, ['policy/debug']],
    ['bit 3, beside debugging', { tdAttributes: sept | 8n }, ['policy/debug']],
    ['migration', { tdAttributes: sept | (1n << 29n) }, ['policy/attributes']],
    ['an unknown attribute', { tdAttributes: sept | (1n << 40n) }, ['policy/attributes']],
    ['SEPT_VE_DISABLE off', { tdAttributes: 0n }, ['policy/attributes']],
    ['no SSE', { xfam: 1n }, ['policy/xfam']],
    ['an unknown XFAM bit', { xfam: 3n | (1n << 3n) }, ['policy/xfam']],
    ['a debugged module', { seamAttributes: 1n }, ['policy/attributes']],
    ['a service TD', { ...report15, mrservicetd: new Uint8Array(48).fill(1) }, ['policy/service-td']],
    [
      'all at once',
      { tdAttributes: 3n, xfam: 0n },
      ['policy/debug', 'policy/debug', 'policy/attributes', 'policy/xfam'],
    ],
  ])('refuses %s', async (_name, fields, expected) => {
    expect(await check(fields)).toEqual(expected);
  });

  test('what the policy leaves out', async () => {
    const demands: TdDemands = { septVeDisable: { notChecked: 'old guest' }, serviceTd: { notChecked: 'migration' } };
    expect(await check({ ...report15, tdAttributes: 0n, mrservicetd: new Uint8Array(48).fill(1) }, demands)).toEqual(
      [],
    );
    expect(await check({ tdAttributes: 1n }, demands)).toEqual(['policy/debug']);
  });
});
