import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { sha256Hex, sha512, toHex } from '../../../proto/index.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import { parsePemChain } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import { AMD_ROOTS } from '../trust-anchors.ts';
import { appraiseSnpReport } from './appraise.ts';
import { DEFAULT_DEMANDS, readCase, readVector } from './vectors.fixture.ts';
import { verifySnpReport } from './verify.ts';

interface Expected {
  readonly id: string;
  readonly inputs: readonly string[];
  readonly now: string;
  readonly expect: 'accept' | 'reject' | 'reject-by-default';
  readonly fields: Readonly<Record<string, string | number>> | null;
}
const cases: readonly Expected[] = JSON.parse(new TextDecoder().decode(readVector('cases.json')));

/** Every reason that each refused case must name; those not listed are accepted. */
const REASONS: Readonly<Record<string, readonly string[]>> = {
  'milan-v2-debug-policy': ['policy/debug'],
  'test-vcek-invalid-legacy': [
    'certificate/broken-link',
    'evidence/report-signature',
    'evidence/chip-id-mismatch',
    'evidence/spl-mismatch',
  ],
  'test-vcek-invalid-new': [
    'certificate/broken-link',
    'evidence/report-signature',
    'evidence/chip-id-mismatch',
    'evidence/spl-mismatch',
  ],
  'milan-vlek-expired': ['certificate/expired'],
  'milan-vlek-wrong-chain': ['certificate/wrong-role'],
  'genoa-v3-stale-crl': ['revocation/stale'],
};

describe.each(cases)('$id', (expected) => {
  test(`${expected.expect}, with every reason`, async () => {
    const findings = new Findings();
    const verification = await verifySnpReport(readCase(expected), findings);
    await appraiseSnpReport(verification, DEFAULT_DEMANDS, findings);
    expect(findings.failures.map(({ reason }) => reason)).toEqual(REASONS[expected.id] ?? []);
    expect(findings.failures.length === 0).toBe(expected.expect === 'accept');
  });

  test.skipIf(expected.fields === null)('claims what an independent parser found', async () => {
    const { claims } = await verifySnpReport(readCase(expected), new Findings());
    const { cpu } = claims;
    const fms = cpu === undefined ? '000000' : toHex(Uint8Array.of(cpu.family, cpu.model, cpu.stepping));
    expect({
      version: claims.version,
      guest_svn: claims.guestSvn,
      policy: `0x${BigInt(`0x${claims.guestPolicy}`).toString(16)}`,
      vmpl: claims.vmpl,
      current_tcb: claims.currentTcb.bytes,
      reported_tcb: claims.reportedTcb.bytes,
      committed_tcb: claims.committedTcb.bytes,
      launch_tcb: claims.launchTcb.bytes,
      platinfo: `0x${BigInt(`0x${claims.platformInfo}`).toString(16)}`,
      report_data: claims.reportData,
      measurement: claims.measurement,
      host_data: claims.hostData,
      fms,
      chip_id: claims.chipId,
      signingKey: claims.signer,
    }).toEqual(expected.fields);
  });
});

test('claims are plain JSON', async () => {
  for (const one of cases) {
    const { claims } = await verifySnpReport(readCase(one), new Findings());
    expect(JSON.parse(JSON.stringify(claims))).toEqual(
      Object.fromEntries(Object.entries(claims).filter(([, v]) => v !== undefined)),
    );
  }
});

test('version 5 carries mitigation vectors, and its report data binds nonce and key', async () => {
  const report = parseSnpReport(readVector('reports/milan-v5-gcp-x25519.bin'));
  expect([report.launchMitigations, report.currentMitigations]).toEqual([0x0bn, 0x0bn]);
  const note = new TextDecoder().decode(readVector('reports/milan-v5-gcp-x25519.binding.txt'));
  const bytes = Buffer.concat([...note.matchAll(/=([0-9a-f]+)/g)].map((match) => Buffer.from(match[1] ?? '', 'hex')));
  expect(toHex(await sha512(bytes))).toBe(toHex(report.reportData));
  expect(parseSnpReport(readVector('reports/genoa-v3-msft.bin')).launchMitigations).toBeUndefined();
});

test('the pinned roots are those of the published chains, of VCEK and VLEK alike', async () => {
  const folder = new URL('../../vectors/snp/chains/', import.meta.url);
  for (const file of readdirSync(folder)) {
    const root = parsePemChain(readFileSync(new URL(file, folder), 'utf8')).at(-1);
    const product = /_(milan|genoa|turin)/.exec(file)?.[1] ?? '';
    const pinned = Object.entries(AMD_ROOTS).find(([name]) => name.toLowerCase() === product)?.[1];
    expect(await sha256Hex(root?.der ?? new Uint8Array()), file).toBe(pinned);
  }
});
