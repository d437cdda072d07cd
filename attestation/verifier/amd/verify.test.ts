import { beforeAll, describe, expect, test } from 'vitest';
import { fromHex } from '../../../proto/index.ts';
import { parseCrl } from '../../evidence/crl.ts';
import type { Reason } from '../../evidence/reasons.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import {
  ASK_SERIAL,
  makeReport,
  makeSyntheticAmd,
  TURIN_CHIP,
  TURIN_LEAF,
  TURIN_TCB,
  wrapped,
  type LeafOptions,
  type ReportPatch,
  type SyntheticAmd,
  type SyntheticLeaf,
} from './synthetic.fixture.ts';
import { readVector } from './vectors.fixture.ts';
import { verifySnpReport, type SnpEvidence } from './verify.ts';

const now = new Date('2026-06-01T00:00:00Z');
let turin: SyntheticAmd;
let vcek: SyntheticLeaf;

beforeAll(async () => {
  turin = await makeSyntheticAmd('Turin');
  vcek = await turin.issueLeaf(TURIN_LEAF);
});

interface Parts {
  readonly report?: Uint8Array;
  readonly certificates?: readonly Uint8Array[];
  readonly crls?: readonly Uint8Array[];
  readonly options?: Partial<SnpEvidence>;
}

async function verify({ report, certificates, crls = [], options = {} }: Parts) {
  const findings = new Findings();
  const evidence: SnpEvidence = {
    report: report ?? (await makeReport(vcek.key)),
    certificates: (certificates ?? [vcek.der, turin.ask, turin.ark]).map((der) => parseCertificate(der)),
    crls: crls.map(parseCrl),
    revocation: { notChecked: 'test' },
    now,
    roots: turin.roots,
    ...options,
  };
  const verification = await verifySnpReport(evidence, findings);
  return { verification, findings, reasons: findings.failures.map(({ reason }) => reason) };
}

async function reasonsOf(parts: Parts): Promise<readonly Reason[]> {
  return (await verify(parts)).reasons;
}

/** A leaf, and a report that it signed. */
async function signedBy(leaf: LeafOptions, patch: ReportPatch = {}): Promise<Parts> {
  const { der, key } = await turin.issueLeaf(leaf);
  const intermediate = leaf.kind === 'VLEK' ? turin.asvk : turin.ask;
  return { report: await makeReport(key, patch), certificates: [der, intermediate, turin.ark] };
}

/** A certificate with neither hardware id nor provider. */
const NEITHER: LeafOptions = { productName: 'Turin', levels: TURIN_LEAF.levels };
const VLEK: LeafOptions = { ...NEITHER, kind: 'VLEK', cspId: 'CN=cc-test.example' };

describe('a Turin report', () => {
  test('is genuine under its chain, and read with its own TCB layout', async () => {
    const { verification, reasons } = await verify({});
    expect(reasons).toEqual([]);
    const { claims } = verification;
    expect(claims.product).toBe('Turin');
    expect(claims.reportedTcb.levels).toEqual({ fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 90 });
    expect([claims.launchMitigations, claims.currentMitigations]).toEqual(['000000000000000b', '000000000000000f']);
    expect(claims.cpu).toEqual({ family: 0x1a, model: 2, stepping: 1 });
  });

  test("is not genuine under AMD's pinned roots", async () => {
    const { AMD_ROOTS } = await import('../trust-anchors.ts');
    expect(await reasonsOf({ options: { roots: AMD_ROOTS } })).toEqual(['certificate/untrusted-root']);
  });

  test('may have the hardware id wrapped in an OCTET STRING, or 64 bytes long', async () => {
    const long = Uint8Array.from([...TURIN_CHIP, ...Array.from({ length: 56 }, () => 0)]);
    for (const hardwareId of [wrapped(Uint8Array.from(TURIN_CHIP)), long, wrapped(long)])
      expect(await reasonsOf(await signedBy({ ...TURIN_LEAF, hardwareId }))).toEqual([]);
  });

  test('may come from a VLEK, whose chip id is not compared', async () => {
    const { reasons, findings } = await verify(
      await signedBy(VLEK, { 0x48: [4], 0x1a0: Array.from({ length: 64 }, () => 0) }),
    );
    expect(reasons).toEqual([]);
    expect(findings.list).toContainEqual({ check: 'chip id', outcome: 'skipped', detail: 'a VLEK is not of one chip' });
  });

  test('may hide its chip id, which is said', async () => {
    const { reasons, findings } = await verify({
      report: await makeReport(vcek.key, { 0x1a0: TURIN_CHIP.map(() => 0) }),
    });
    expect(reasons).toEqual([]);
    expect(findings.list).toContainEqual(expect.objectContaining({ check: 'chip id', outcome: 'skipped' }));
  });
});

describe('the certificates', () => {
  test('come in any order, with others among them', async () => {
    const other = await turin.issueLeaf({ ...TURIN_LEAF, hardwareId: Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9) });
    const certificates = [turin.ark, other.der, turin.asvk, turin.ask, vcek.der, vcek.der];
    expect(await reasonsOf({ certificates })).toEqual([]);
    expect(await reasonsOf({ certificates: certificates.toReversed() })).toEqual([]);
  });

  test('must have a leaf, and the refusal names where it is', async () => {
    const { findings, reasons, verification } = await verify({ certificates: [turin.ask, turin.ark] });
    expect(reasons).toEqual(['collateral/missing']);
    expect(findings.failures[0]?.detail).toContain(
      'https://kdsintf.amd.com/vcek/v1/Turin/1122334455667788?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=90',
    );
    expect(findings.list.filter(({ outcome }) => outcome === 'skipped')).toHaveLength(10);
    expect(verification.product).toBe('Turin');
  });

  test('must have the authorities', async () => {
    expect(await reasonsOf({ certificates: [vcek.der, turin.ark] })).toEqual(['certificate/missing-intermediate']);
    expect(await reasonsOf({ certificates: [vcek.der, turin.ask] })).toEqual(['collateral/missing']);
    expect(await reasonsOf({ certificates: [] })).toEqual(['collateral/missing']);
  });

  test('are not looked at when there are too many', async () => {
    expect(await reasonsOf({ certificates: Array.from({ length: 65 }, () => vcek.der) })).toEqual(['parse/length']);
  });

  test('must be of the kind that the report names', async () => {
    expect(await reasonsOf({ certificates: [vcek.der, turin.asvk, turin.ark] })).toEqual(['certificate/wrong-role']);
    const asVlek = await makeReport(vcek.key, { 0x48: [4] });
    expect(await reasonsOf({ report: asVlek })).toEqual(['certificate/wrong-role']);
    const unsigned = await makeReport(vcek.key, { 0x48: [0x1c] });
    expect(await reasonsOf({ report: unsigned })).toEqual(['evidence/report-signature']);
  });

  test('must be of the product that the report names', async () => {
    const genoa = await makeReport(vcek.key, { 0x188: [0x19, 0x11, 1] });
    expect(await reasonsOf({ report: genoa })).toEqual(['certificate/wrong-product']);
    const leaf = { ...TURIN_LEAF, productName: 'Unheard-B0' };
    expect(await reasonsOf(await signedBy(leaf))).toEqual(['certificate/wrong-product']);
  });

  test('must all be of one product', async () => {
    const ask = await turin.issueAsk({ subject: 'SEV-Genoa' });
    expect(await reasonsOf({ certificates: [vcek.der, ask, turin.ark] })).toEqual(['certificate/wrong-product']);
    const milan = { ...(await signedBy({ ...TURIN_LEAF, productName: 'Milan-B0' })) };
    expect(await reasonsOf(milan)).toContain('parse/der'); // a Milan certificate with Turin's extensions
  });

  test('must be signed as AMD does', async () => {
    for (const pss of [{ hash: 'SHA-256', saltBytes: 48 } as const, { hash: 'SHA-384', saltBytes: 32 } as const])
      expect(await reasonsOf(await signedBy({ ...TURIN_LEAF, pss }))).toEqual(['parse/unsupported-algorithm']);
  });

  test('must be valid at the time', async () => {
    expect(await reasonsOf({ options: { now: new Date('2050-01-01') } })).toEqual(['certificate/expired']);
    expect(await reasonsOf({ options: { now: new Date('2019-01-01') } })).toEqual(['certificate/not-yet-valid']);
    expect(await reasonsOf({ options: { now: new Date(Number.NaN) } })).toEqual(['certificate/not-yet-valid']);
    const ask = await turin.issueAsk({ notAfter: '2025-01-01T00:00:00Z' });
    expect(await reasonsOf({ certificates: [vcek.der, ask, turin.ark] })).toEqual(['certificate/expired']);
  });

  test('stay dated when their signatures are remembered', async () => {
    expect(await reasonsOf({})).toEqual([]);
    expect(await reasonsOf({})).toEqual([]);
    expect(await reasonsOf({ options: { now: new Date('2050-01-01') } })).toEqual(['certificate/expired']);
  });

  test('must be signed by those above them', async () => {
    const altered = Uint8Array.from(vcek.der);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    expect(await reasonsOf({ certificates: [altered, turin.ask, turin.ark] })).toEqual(['certificate/broken-link']);
    const stranger = await makeSyntheticAmd('Turin');
    expect(await reasonsOf({ certificates: [vcek.der, turin.ask, stranger.ark] })).toEqual([
      'certificate/untrusted-root',
    ]);
    expect(await reasonsOf({ certificates: [vcek.der, stranger.ask, turin.ark] })).toEqual(['certificate/broken-link']);
  });

  test('have a hardware id or a provider, not both and not neither', async () => {
    expect(await reasonsOf(await signedBy({ ...TURIN_LEAF, cspId: 'CN=both' }))).toEqual(['certificate/wrong-role']);
    expect(await reasonsOf(await signedBy(NEITHER))).toEqual(['certificate/wrong-role']);
  });
});

describe('the revocation list', () => {
  test('passes when it is good', async () => {
    const { findings, reasons } = await verify({ crls: [await turin.issueCrl()], options: { revocation: 'required' } });
    expect(reasons).toEqual([]);
    expect(findings.list).toContainEqual({ check: 'revocation', outcome: 'passed' });
  });

  test('is asked for, or its absence is explained', async () => {
    expect(await reasonsOf({ options: { revocation: 'required' } })).toEqual(['revocation/missing']);
    const { findings } = await verify({});
    expect(findings.list).toContainEqual({ check: 'revocation', outcome: 'skipped', detail: 'test' });
  });

  test('revokes the intermediate', async () => {
    expect(await reasonsOf({ crls: [await turin.issueCrl({ serials: [7, ASK_SERIAL] })] })).toEqual([
      'certificate/revoked',
    ]);
    const vlek = await signedBy(VLEK, { 0x48: [4] });
    expect(await reasonsOf({ ...vlek, crls: [await turin.issueCrl({ serials: [ASK_SERIAL] })] })).toEqual([]);
    expect(await reasonsOf({ ...vlek, crls: [await turin.issueCrl({ serials: [0x030101] })] })).toEqual([
      'certificate/revoked',
    ]);
  });

  test('must be current, and signed by the ARK, also where none is required', async () => {
    const stale = await turin.issueCrl({ nextUpdate: '2026-05-31T23:59:59Z' });
    expect(await reasonsOf({ crls: [stale] })).toEqual(['revocation/stale']);
    const future = await turin.issueCrl({ thisUpdate: '2026-06-01T00:00:01Z' });
    expect(await reasonsOf({ crls: [future] })).toEqual(['revocation/not-yet-valid']);
    expect(await reasonsOf({ crls: [await turin.issueCrl({ signer: 'ASK' })] })).toEqual(['revocation/signature']);
    const genoa = readVector('crls/genoa.crl.der');
    expect(await reasonsOf({ crls: [genoa] })).toEqual(['revocation/wrong-issuer']);
  });

  test('is the one that is current, when several are there', async () => {
    const stale = await turin.issueCrl({ nextUpdate: '2026-05-31T23:59:59Z' });
    const newer = await turin.issueCrl({ thisUpdate: '2026-02-01T00:00:00Z' });
    const revoking = await turin.issueCrl({ thisUpdate: '2026-03-01T00:00:00Z', serials: [ASK_SERIAL] });
    expect(await reasonsOf({ crls: [stale, readVector('crls/genoa.crl.der'), newer] })).toEqual([]);
    expect(await reasonsOf({ crls: [newer, revoking] })).toEqual(['certificate/revoked']);
  });
});

describe('the report', () => {
  test('must be signed by the leaf', async () => {
    const other = await turin.issueLeaf(TURIN_LEAF);
    expect(await reasonsOf({ report: await makeReport(other.key) })).toEqual(['evidence/report-signature']);
  });

  test.each([
    ['R is zero', { 0: zeros(48) }],
    ['S is zero', { 72: zeros(48) }],
    ['R is not below the order', { 0: ones(48) }],
    ['S is the order', { 72: order() }],
  ])('has a signature in range: %s', async (_, signature) => {
    const report = await makeReport(vcek.key, {}, signature);
    expect(await reasonsOf({ report })).toEqual(['evidence/report-signature']);
  });

  test('must be of the chip', async () => {
    const report = await makeReport(vcek.key, { 0x1a0: TURIN_CHIP.with(7, 0) });
    expect(await reasonsOf({ report })).toEqual(['evidence/chip-id-mismatch']);
  });

  test('must report the TCB of its key, part by part; the current one may differ', async () => {
    for (const index of [0, 1, 2, 3, 7]) {
      const report = await makeReport(vcek.key, { 0x180: TURIN_TCB.with(index, 200) });
      expect(await reasonsOf({ report }), `byte ${index}`).toEqual(['evidence/spl-mismatch']);
    }
    expect(await reasonsOf({ report: await makeReport(vcek.key, { 0x38: TURIN_TCB.with(7, 91) }) })).toEqual([]);
  });

  test('keeps the reserved bytes of every TCB zero', async () => {
    for (const offset of [0x38, 0x1e0, 0x1f0]) {
      const report = await makeReport(vcek.key, { [offset]: TURIN_TCB.with(5, 1) });
      expect(await reasonsOf({ report })).toEqual(['parse/reserved']);
    }
    const report = await makeReport(vcek.key, { 0x180: TURIN_TCB.with(5, 1) });
    expect(await reasonsOf({ report })).toEqual(['parse/reserved', 'evidence/spl-mismatch']);
  });

  test('names every reason at once', async () => {
    const report = await makeReport(vcek.key, { 0x180: TURIN_TCB.with(0, 9), 0x1a0: [1], 0x188: [0x19, 0x11, 1] });
    expect(await reasonsOf({ report, options: { now: new Date('2050-01-01'), revocation: 'required' } })).toEqual([
      'certificate/wrong-product',
      'certificate/expired',
      'revocation/missing',
      'evidence/chip-id-mismatch',
      'evidence/spl-mismatch',
    ]);
  });
});

test('a report of version 2 takes its product from the certificate', async () => {
  const patch = { 0: [2], 0x188: [0, 0, 0], 0x1f8: [0], 0x200: [0] };
  const { reasons, verification } = await verify({ report: await makeReport(vcek.key, patch) });
  expect(reasons).toEqual([]);
  expect(verification.report.product).toBeUndefined();
  expect(verification.product).toBe('Turin');
});

function zeros(length: number): number[] {
  return Array.from({ length }, () => 0);
}
function ones(length: number): number[] {
  return Array.from({ length }, () => 0xff);
}
/** Of P-384's group, little endian. */
function order(): number[] {
  const hex = 'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973';
  return Array.from(fromHex(hex).toReversed());
}
