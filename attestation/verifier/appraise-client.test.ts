import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test, vi } from 'vitest';
import { generateTeeKeyPair, NO_ENDORSEMENTS, toBase64url, type Endorsements } from '../../proto/index.ts';
import { readPolicyFile } from '../../proto/node.ts';
import { cocoEvidence } from '../attester/coco.ts';
import { parseCocoEvidence } from '../evidence/coco.ts';
import { readSnpReport, writeSnpReport } from '../evidence/snp-json.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import { parsePemChain } from '../evidence/x509.ts';
import { amdKds } from '../collateral/amd.ts';
import { endorseEvidence } from '../collateral/index.ts';
import { appraiseClient, type ClientAttestation, type ClientOptions } from './appraise-client.ts';
import { AppraisalRefused } from './appraise.ts';
import { parseWorkerPolicy } from './policy/policy.ts';

// What the recording binds is not known in parts: for this nonce, its report data is what is expected.
const RECORDED = 'R'.repeat(44);
vi.mock(import('./report-data.ts'), async (importOriginal) => {
  const original = await importOriginal();
  return {
    ...original,
    kbsBinding: async (asked, additional) => {
      const expected = await original.kbsBinding(asked, additional);
      if (asked.nonce !== RECORDED) return expected;
      return { ...expected, reportData: Uint8Array.from(recorded.attestation_report.report_data) };
    },
  };
});

const url = (path: string): URL => new URL(`../vectors/${path}`, import.meta.url);
const recorded = JSON.parse(readFileSync(url('snp/trustee-e2e-evidence.json'), 'utf8')) as {
  attestation_report: Record<string, unknown> & { measurement: number[]; report_data: number[]; chip_id: number[] };
  cert_chain: { data: number[] }[];
};
const binding = { nonce: 'A'.repeat(44), teePubkey: (await generateTeeKeyPair()).publicKey, hash: 'sha384' as const };
const client: ClientAttestation = {
  tee: 'snp',
  primary: recorded,
  additional: '',
  binding: { ...binding, nonce: RECORDED },
};
const measurement = Buffer.from(recorded.attestation_report.measurement).toString('hex');

/** What this project ships for SEV-SNP, less GPUs and AMD's CRL, which the recording does not have. */
async function policyFor(measured: string) {
  const file = fileURLToPath(new URL('../policies/production-snp-h100.toml', import.meta.url));
  const shipped = (await readPolicyFile(file)) as { tee: object };
  return parseWorkerPolicy({
    ...shipped,
    tee: { ...shipped.tee, revocation: { notChecked: 'a recording' }, measurement: [measured] },
    gpu: { notRequired: 'a recording' },
    binding: { notRequired: 'a recording' },
  });
}
const amd: Endorsements = {
  ...NO_ENDORSEMENTS,
  amd: {
    certificates: parsePemChain(readFileSync(url('snp/chains/ask_ark_genoa.pem'), 'utf8')).map(({ der }) =>
      toBase64url(der),
    ),
    crls: [],
  },
};
const now = new Date('2026-03-01T00:00:00Z');

async function refusalOf(attestation: ClientAttestation, measured = measurement): Promise<AppraisalRefused> {
  const options = { policy: await policyFor(measured), now, endorse: () => Promise.resolve(amd) };
  const refused = await appraiseClient(attestation, options).catch((error: unknown) => error);
  if (refused instanceof AppraisalRefused) return refused;
  throw refused instanceof Error ? refused : new Error('it was accepted');
}
async function refusalWith(attestation: ClientAttestation, endorse: ClientOptions['endorse']): Promise<void> {
  const options = { policy: await policyFor(measurement), now, endorse };
  await expect(appraiseClient(attestation, options)).rejects.toBeInstanceOf(AppraisalRefused);
}
const failuresOf = ({ findings }: AppraisalRefused): string[] =>
  findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));

describe('evidence of a SEV-SNP machine, recorded from the attester of Confidential Containers', () => {
  test('is genuine where it binds what was asked, and refused for that one reason where it does not', async () => {
    const options = { policy: await policyFor(measurement), now, endorse: () => Promise.resolve(amd) };
    const { tee, findings } = await appraiseClient(client, options);
    expect(tee).toBe('snp');
    expect(findings.filter(({ outcome }) => outcome === 'passed').length).toBeGreaterThan(8);
    expect(failuresOf(await refusalOf({ ...client, binding }))).toEqual(['binding/report-data']);
  });

  test('any field that is not what the firmware signed breaks the signature', async () => {
    const { attestation_report: report } = recorded;
    for (const change of [
      { guest_svn: 1 },
      { report_data: report['host_data'] instanceof Array ? Array.from({ length: 64 }, () => 0) : [] },
      { current: { major: 1, minor: 55, build: 41 } },
      { launch_tcb: { fmc: null, bootloader: 10, tee: 0, snp: 23, microcode: 24 } },
      { cpuid_step: 3 },
    ]) {
      const primary = { ...recorded, attestation_report: { ...report, ...change } };
      expect(failuresOf(await refusalOf({ ...client, primary }))).toContain('evidence/report-signature');
    }
    expect(failuresOf(await refusalOf(client, '00'.repeat(48)))).toContain('policy/measurement');
  });

  test('without the chain that came along there is no key to believe', async () => {
    const primary = { ...recorded, cert_chain: null };
    expect(failuresOf(await refusalOf({ ...client, primary }))).toContain('collateral/missing');
  });

  test('vendors are asked for nothing where the report shows by itself that it will be refused', async () => {
    const endorse = vi.fn(() => Promise.resolve(amd));
    const { attestation_report: report } = recorded;
    const of = (change: object): ClientAttestation => ({
      ...client,
      primary: { ...recorded, cert_chain: null, attestation_report: { ...report, ...change } },
    });
    const signedByAnother = { ...recorded, attestation_report: { ...report, guest_svn: 1 } };
    const cases: [ClientAttestation, string, string][] = [
      [of({ measurement: Array.from({ length: 48 }, () => 1) }), measurement, 'CFN_MEASUREMENT_UNKNOWN'],
      [of({ report_data: Array.from({ length: 64 }, () => 1) }), measurement, 'CFN_REPORT_DATA_MISMATCH'],
      [of({ vmpl: 3 }), measurement, 'CFN_TD_ATTRIBUTES'],
      [client, '00'.repeat(48), 'CFN_MEASUREMENT_UNKNOWN'],
      [{ ...client, primary: signedByAnother }, measurement, 'CFN_QUOTE_SIGNATURE'],
    ];
    for (const [attestation, measured, code] of cases) {
      const options = { policy: await policyFor(measured), now, endorse };
      await expect(appraiseClient(attestation, options)).rejects.toMatchObject({ code });
    }
    expect(endorse).not.toHaveBeenCalled();
    // What nothing but AMD's certificate can tell is asked for.
    await refusalWith(of({ chip_id: Array.from({ length: 64 }, () => 1) }), endorse);
    expect(endorse).toHaveBeenCalledOnce();
  });

  test("chips that do not exist use up what is asked of AMD's service; evidence with its own certificate passes all the same", async () => {
    const chips = new Set<string>();
    let isAsleep = false;
    const kds = amdKds({
      timeoutMs: 1000,
      now: () => now,
      fetch: (input) => {
        const asked = input as string;
        if (isAsleep) return Promise.resolve(new Response('', { status: 503, headers: { 'retry-after': '3600' } }));
        if (asked.endsWith('/cert_chain'))
          return Promise.resolve(new Response(readFileSync(url('snp/chains/ask_ark_genoa.pem'))));
        if (!asked.endsWith('/crl')) chips.add(asked);
        return Promise.resolve(new Response('', { status: 404 }));
      },
    });
    const endorse: ClientOptions['endorse'] = (evidence, brought) =>
      endorseEvidence(evidence, { amd: kds, intel: undefined, nvidia: undefined }, brought);
    const options = { policy: await policyFor(measurement), now, endorse };
    for (let i = 0; i < 100; i++) {
      const attestation_report = {
        ...recorded.attestation_report,
        chip_id: Array.from({ length: 64 }, (_, at) => (at < 2 ? i + 1 : 7)),
      };
      const primary = { ...recorded, attestation_report, cert_chain: null };
      await expect(appraiseClient({ ...client, primary }, options)).rejects.toMatchObject({
        code: 'CFN_VENDOR_UNREACHABLE',
      });
    }
    expect(chips.size).toBe(20);
    expect((await appraiseClient(client, options)).tee).toBe('snp');
    // Also while the service answers nothing at all: its authorities are kept.
    isAsleep = true;
    expect((await appraiseClient(client, options)).tee).toBe('snp');
  });

  test('vendors are not asked for a kind that the policy does not accept', async () => {
    let asked = 0;
    const endorse = async (): Promise<Endorsements> => {
      asked++;
      return NO_ENDORSEMENTS;
    };
    const primary = { quote: Buffer.alloc(64).toString('base64') };
    const options = { policy: await policyFor(measurement), now, endorse };
    await expect(appraiseClient({ ...client, tee: 'tdx', primary }, options)).rejects.toMatchObject({
      code: 'CFN_TEE_REFUSED',
    });
    expect(asked).toBe(0);
  });

  test('nor for a genuine TDX quote of an image that it does not know, nor for one that was altered', async () => {
    let asked = 0;
    const endorse = async (): Promise<Endorsements> => {
      asked++;
      return NO_ENDORSEMENTS;
    };
    const file = fileURLToPath(new URL('../policies/production-tdx-h100.toml', import.meta.url));
    const policy = parseWorkerPolicy(await readPolicyFile(file));
    const quote = readFileSync(url('tdx-v4-gcp.bin'));
    const altered = Buffer.from(quote);
    altered[48 + 520] = (altered[48 + 520] ?? 0) ^ 1; // in the report data
    for (const [bytes, code] of [
      [quote, 'CFN_MEASUREMENT_UNKNOWN'],
      [altered, 'CFN_QUOTE_SIGNATURE'],
    ] as const) {
      const primary = { cc_eventlog: null, quote: bytes.toString('base64') };
      const at = new Date('2025-10-25T00:00:00Z');
      await expect(
        appraiseClient({ ...client, tee: 'tdx', primary }, { policy, now: at, endorse }),
      ).rejects.toMatchObject({
        code,
      });
    }
    expect(asked).toBe(0);
  });

  test('evidence that nobody signed is refused by a policy for real hardware', async () => {
    const primary = { svn: '1', report_data: Buffer.alloc(48).toString('base64') };
    expect(failuresOf(await refusalOf({ ...client, tee: 'sample', primary }))).toContain('policy/tee-kind');
  });
});

describe('reports as fields and as bytes', () => {
  const reports = readdirSync(url('snp/reports')).filter((name) => name.endsWith('.bin'));
  test.each(reports)('%s is the same after the way through JSON', (name) => {
    const bytes = new Uint8Array(readFileSync(url(`snp/reports/${name}`)));
    const text = JSON.stringify(readSnpReport(bytes));
    expect(Buffer.from(writeSnpReport(JSON.parse(text))).equals(bytes)).toBe(true);
  });

  test('the recorded fields come out as they were', () => {
    const bytes = writeSnpReport(recorded.attestation_report);
    expect(parseSnpReport(bytes)).toMatchObject({ version: 3, product: 'Genoa', signer: 'VCEK' });
    expect(readSnpReport(bytes)).toMatchObject(recorded.attestation_report);
  });

  test.each([
    ['a field that is missing', { measurement: undefined }],
    ['a field too short', { chip_id: [1, 2, 3] }],
    ['a byte over 255', { image_id: Array.from({ length: 16 }, () => 256) }],
    ['a number below zero', { policy: -1 }],
    ['text', { vmpl: '0' }],
  ])('%s is refused', (_, change) => {
    expect(() => writeSnpReport({ ...recorded.attestation_report, ...change })).toThrow(
      expect.objectContaining({ reason: 'parse/json' }),
    );
  });
});

describe('evidence in forms that are not known', () => {
  test.each<[string, string, unknown, string]>([
    ['a kind of TEE', 'sgx', {}, ''],
    ['a quote that is no base64', 'tdx', { quote: '%' }, ''],
    ['no quote', 'tdx', {}, ''],
    ['devices as a list', 'tdx', { quote: 'AAAA' }, '[]'],
    ['devices that are no JSON', 'tdx', { quote: 'AAAA' }, '{'],
    ['devices of another vendor', 'tdx', { quote: 'AAAA' }, '{"sampledevice":{}}'],
    ['devices named twice', 'tdx', { quote: 'AAAA' }, '{"nvidia":{"device_evidence_list":[]},"nvidia":{}}'],
    [
      'a device of another architecture',
      'tdx',
      { quote: 'AAAA' },
      '{"nvidia":{"device_evidence_list":[{"arch":"VOLTA","evidence":"AAAA","certificate":"AAAA"}]}}',
    ],
  ])('%s', (_, tee, primary, additional) => {
    expect(() => parseCocoEvidence(tee, primary, additional)).toThrow(
      expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }),
    );
  });

  test('what our attesters write is read back', () => {
    const report = new Uint8Array(readFileSync(url('snp/reports/genoa-v3-msft.bin')));
    const endorsements = { ...NO_ENDORSEMENTS, amd: { certificates: ['AQID'], crls: [] } };
    const { tee, primary } = cocoEvidence({ tee: 'snp', gpus: [], quote: report, endorsements }, new Uint8Array(48));
    const parsed = parseCocoEvidence(tee, JSON.parse(JSON.stringify(primary)), '');
    expect(Buffer.from(parsed.quote).equals(report)).toBe(true);
    expect(parsed.certificates).toEqual([Uint8Array.of(1, 2, 3)]);
    const tdx = cocoEvidence({ tee: 'tdx', gpus: [], quote: Uint8Array.of(1, 2), endorsements }, new Uint8Array(48));
    expect(parseCocoEvidence(tdx.tee, tdx.primary, '').quote).toEqual(Uint8Array.of(1, 2));
  });
});
