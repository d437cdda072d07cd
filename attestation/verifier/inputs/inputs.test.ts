import { readdirSync, readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import { appraisalFixture } from '../../appraisal.fixture.ts';
import { parsePolicy, type AppraisalPolicy } from '../policy/policy.ts';
import { fromHex, toHex, utf8 } from '../../../proto/index.ts';
import { makeReport, makeSyntheticAmd, TURIN_LEAF } from '../amd/synthetic.fixture.ts';
import { defaultPolicy } from '../../../cli/conformance/policies.ts';
import { appraiseInputs } from './appraise-inputs.ts';
import { gather } from './gather.ts';
import { recognise } from './recognise.ts';

const folder = new URL('../../vectors/', import.meta.url);
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(new URL(path, folder)));

async function appraise(inputs: readonly Uint8Array[], now: string, nonce?: Uint8Array) {
  const options = { policy: defaultPolicy(gather(inputs)), now: new Date(now) };
  const { accepted, findings, ...rest } = await appraiseInputs(inputs, { ...options, ...(nonce && { nonce }) });
  const failures = findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));
  return { accepted, failures, findings, ...rest };
}

describe('inputs are told by their content', () => {
  test.each([
    ['tdx/quotes', 'tdx-quote'],
    ['tdx/collateral', 'intel-collateral'],
    ['snp/reports', 'snp-report', '.bin'],
    ['snp/certs', 'certificate'],
    ['snp/chains', 'pem'],
    ['snp/crls', 'crl'],
    ['nvidia/reports', 'spdm-report'],
    ['nvidia/chains', 'pem'],
    ['nvidia/rims', 'rim', '.xml'],
    ['nvidia/ocsp', 'ocsp-response'],
    ['nvidia/box-590.12', 'gpu-evidence'],
    ['tpm', 'tpm-evidence', '.json'],
    ['tokens', 'jwks', '.jwks.json'],
  ])('%s: %s', (path, kind, ending = '') => {
    const names = readdirSync(new URL(`${path}/`, folder)).filter(
      (name) => name.endsWith(ending) && name !== 'cases.json',
    );
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) expect([name, recognise(read(`${path}/${name}`)).kind]).toEqual([name, kind]);
  });

  test('also as hexadecimal and base64 text', () => {
    const quote = read('tdx/quotes/v4-phala-b0c06f.bin');
    expect(recognise(utf8(`${toHex(quote)}\n`))).toEqual({ kind: 'tdx-quote', bytes: quote });
    const pairs = toHex(quote).match(/../g) ?? [];
    const encoded = Buffer.from(quote).toString('base64');
    for (const text of [`0x${toHex(quote)}`, `0X${toHex(quote)}`, pairs.join(':'), `"${encoded}"`, `b'${encoded}'`])
      expect(recognise(utf8(text))).toEqual({ kind: 'tdx-quote', bytes: quote });
    const base64 = Buffer.from(quote).toString('base64').replaceAll(/.{76}/g, '$&\n');
    expect(recognise(utf8(base64))).toMatchObject({ kind: 'tdx-quote' });
  });

  test.each([
    ['nothing', new Uint8Array(), 'parse/empty'],
    ['white space', utf8(' \n'), 'parse/unknown-input'],
    ['a text', utf8('hello there, this is no evidence'), 'parse/unknown-input'],
    ['bytes', new Uint8Array(40).fill(0xee), 'parse/unknown-input'],
    ['broken JSON', utf8('{"tpm_quote":'), 'parse/json'],
    ['JSON of another kind', utf8('{"a":1}'), 'parse/unknown-input'],
    [
      'a text within a text within a text',
      utf8(toHex(utf8(toHex(utf8(toHex(utf8('{"x5c":[]}'))))))),
      'parse/unknown-input',
    ],
  ])('%s is refused', (_, bytes, reason) => {
    expect(() => gather([bytes])).toThrow(expect.objectContaining({ reason }) as Error);
  });

  test('a text that is almost a note takes no time', () => {
    const started = performance.now();
    expect(() => recognise(utf8(`${'A=11111'.repeat(1000)}!`))).toThrow(
      expect.objectContaining({ reason: 'parse/unknown-input' }) as Error,
    );
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

const QUOTE = read('tdx/quotes/v4-cos113-00806f05.bin');
const COLLATERAL = read('tdx/collateral/00806f05-2025-02.json');
const QUOTE_AT = '2025-02-20T00:00:00Z';
const SNP = ['reports/milan-v5-gcp-x25519.bin', 'certs/milan-v5-gcp-x25519.vcek.der', 'chains/ask_ark_milan.pem'].map(
  (path) => read(`snp/${path}`),
);
const SNP_AT = '2026-01-15T00:00:00Z';
const H100 = [
  'reports/h100-550.90.07.bin',
  'chains/h100-550.90.07.pem',
  'rims/NV_GPU_DRIVER_GH100_550.90.07.xml',
  'rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml',
].map((path) => read(`nvidia/${path}`));
const H100_AT = '2025-10-24T12:00:00Z';

describe('parts are put together', () => {
  test('in any order', async () => {
    expect(await appraise(H100.toReversed(), H100_AT)).toMatchObject({ accepted: true });
    expect(await appraise(SNP.toReversed(), SNP_AT)).toMatchObject({ accepted: true });
  });

  test('Intel’s answers one by one, as one document', async () => {
    const document = JSON.parse(new TextDecoder().decode(COLLATERAL)) as Record<string, string>;
    const part = (name: string): string => document[name] ?? '';
    const parts = [
      utf8(`{"tcbInfo":${part('tcb_info')},"signature":"${part('tcb_info_signature')}"}`),
      utf8(`{"enclaveIdentity":${part('qe_identity')},"signature":"${part('qe_identity_signature')}"}`),
      utf8(part('tcb_info_issuer_chain')),
      utf8(part('pck_crl_issuer_chain')),
      fromHex(part('pck_crl')),
      fromHex(part('root_ca_crl')),
    ];
    expect(await appraise([QUOTE, ...parts], QUOTE_AT)).toMatchObject({ accepted: true, failures: [] });
    expect(await appraise([QUOTE, ...parts.slice(0, 4)], QUOTE_AT).catch((error: unknown) => error)).toMatchObject({
      reason: 'revocation/missing',
    });
  });

  test('each report with the chain of its own device', async () => {
    const other = ['reports/h100-535.86.09.bin', 'chains/h100-535.86.09.pem'].map((path) => read(`nvidia/${path}`));
    const [report, chain] = H100;
    const { failures, claims } = await appraise(
      [report ?? new Uint8Array(), ...other, chain ?? new Uint8Array()],
      H100_AT,
    );
    expect(new Set(failures)).toEqual(new Set(['collateral/rim-missing']));
    expect(claims.gpus.map(({ driver }) => driver)).toEqual(['550.90.07', '535.86.09']);
  });

  test('GPU evidence as JSON: its chain in PEM, its report in hexadecimal; no list is empty', async () => {
    const [report = new Uint8Array(), chain = new Uint8Array(), ...rims] = H100;
    const device = { evidence: toHex(report), certificate: new TextDecoder().decode(chain) };
    expect(await appraise([utf8(JSON.stringify([device])), ...rims], H100_AT)).toMatchObject({ accepted: true });
    expect(() => gather([utf8('{"evidence_list":[]}')])).toThrow(
      expect.objectContaining({ reason: 'parse/empty' }) as Error,
    );
  });

  test('an event log with the quote whose registers it explains', async () => {
    const log = read('ccel/cos-113-ccel-data.bin');
    const { accepted, claims } = await appraise([QUOTE, COLLATERAL, log], QUOTE_AT);
    expect(accepted).toBe(true);
    expect(claims.eventLogs[0]?.matched).toEqual(['RTMR 0', 'RTMR 1', 'RTMR 2']);
    const other = ['tdx/quotes/v4-teekit-gcp-00806f05.bin', 'tdx/collateral/00806f05-2025-10.json'].map(read);
    expect((await appraise([...other, log], '2025-10-25T00:00:00Z')).failures).toContain('evidence/event-log-replay');
    expect((await appraise([log], QUOTE_AT)).failures).toContain('evidence/event-log-replay');
  });

  test('evidence of CPU and GPU that nothing binds is said to be unbound', async () => {
    const crl = read('snp/crls/milan.crl.der');
    const inputs = [read('snp/reports/milan-v2-trustee.bin'), read('snp/certs/milan-v2-trustee.vcek.der')];
    const { accepted, binding } = await appraise([...inputs, ...SNP.slice(2), crl, ...H100], H100_AT);
    expect({ accepted, binding: binding?.level }).toEqual({ accepted: true, binding: 'none' });
  });
});

describe('what report data is over', () => {
  const note = read('snp/reports/milan-v5-gcp-x25519.binding.txt');
  const nonce = fromHex('df82306ff38a9da023854af947d02a878cfab1b40a793823ff41dc51213b96aa');

  test('a note of nonce and key', async () => {
    expect(await appraise([...SNP, note], SNP_AT, nonce)).toMatchObject({ accepted: true });
    expect((await appraise([...SNP, note], SNP_AT, new Uint8Array(32))).failures).toEqual(['binding/nonce-mismatch']);
    const other = utf8(new TextDecoder().decode(note).replace('X25519_KEY=03', 'X25519_KEY=04'));
    expect((await appraise([...SNP, other], SNP_AT, nonce)).failures).toEqual(['binding/report-data']);
  });

  test('Intel Trust Authority’s nonce', async () => {
    const bundle = read('tokens/trust-authority-gcp-20250911.json');
    const collateral = read('tdx/collateral/00806f05-2025-10.json');
    expect(await appraise([bundle, collateral], '2025-10-25T00:00:00Z')).toMatchObject({ accepted: true });
    const other = utf8(new TextDecoder().decode(bundle).replace(/"iat": ?"M/, '"iat":"N'));
    expect((await appraise([other, collateral], '2025-10-25T00:00:00Z')).failures).toEqual(['binding/report-data']);
  });

  test('without a scheme, a nonce that is not in it is refused, and none is said to be unchecked', async () => {
    expect((await appraise(SNP, SNP_AT, nonce)).failures).toEqual(['binding/nonce-mismatch']);
    const { findings } = await appraise(SNP, SNP_AT);
    expect(findings).toContainEqual({ check: 'freshness', outcome: 'skipped', detail: 'no nonce was given' });
  });
});

describe('a supplied endorsement is verified, also where none is demanded', () => {
  test('a CRL of another product, and one whose issuer was changed', async () => {
    const genoa = read('snp/crls/genoa.crl.der');
    expect((await appraise([...SNP, genoa], '2025-10-01T00:00:00Z')).accepted).toBe(false);
    const crl = read('snp/crls/milan.crl.der');
    const name = Buffer.from(crl).indexOf('ARK-Milan');
    crl[name] = 0x42;
    expect((await appraise([...SNP, crl], SNP_AT)).accepted).toBe(false);
  });

  test('an OCSP answer that is stale, or of nobody', async () => {
    const stale = read('nvidia/ocsp/gpu_certificate_l4.der');
    expect((await appraise([...H100, stale], H100_AT)).failures).toEqual(['revocation/stale']);
    const [rim] = H100.slice(2);
    expect((await appraise([rim ?? new Uint8Array(), stale], H100_AT)).failures).toEqual(['revocation/wrong-issuer']);
  });
});

describe('of several endorsements the fitting ones are used', () => {
  const all = (path: string) => readdirSync(new URL(`${path}/`, folder)).map((name) => read(`${path}/${name}`));

  test('collateral of several platforms and days', async () => {
    const documents = all('tdx/collateral');
    const at = async (quote: string, now: string) => {
      const one = await appraise([read(`tdx/quotes/${quote}.bin`), ...documents], now);
      const other = await appraise([read(`tdx/quotes/${quote}.bin`), ...documents.toReversed()], now);
      expect(other.failures).toEqual(one.failures);
      return one.failures;
    };
    expect(await at('v5-go-tdx-guest-90c06f', '2026-02-25T00:00:00Z')).toEqual([]);
    expect(await at('v4-teekit-gcp-00806f05', '2025-10-25T00:00:00Z')).toEqual([]);
    expect(await at('v4-cos113-00806f05', '2025-02-20T00:00:00Z')).toEqual([]);
    expect(await at('v5-go-tdx-guest-90c06f', '2026-06-25T00:00:00Z')).toContain('collateral/expired');
  });

  test('loose parts of several days, and for SGX', async () => {
    type Members = Readonly<Record<string, string>>;
    const members = (file: string) =>
      JSON.parse(new TextDecoder().decode(read(`tdx/collateral/${file}.json`))) as Members;
    const bytes = (hex = '') => new Uint8Array(Buffer.from(hex, 'hex'));
    const answers = (c: Members) => [
      utf8(`{"tcbInfo":${c['tcb_info']},"signature":"${c['tcb_info_signature']}"}`),
      utf8(`{"enclaveIdentity":${c['qe_identity']},"signature":"${c['qe_identity_signature']}"}`),
    ];
    const lists = (c: Members) => [bytes(c['pck_crl']), bytes(c['root_ca_crl'])];
    const signing = (c: Members) => utf8(c['tcb_info_issuer_chain'] ?? '');
    const [fresh, stale] = [members('b0c06f-2025-06'), members('00806f05-2025-02')];
    const quote = read('tdx/quotes/v4-phala-b0c06f.bin');
    const now = '2025-06-25T00:00:00Z';
    // The PCK CA and the root come with the quote.
    const parts = [quote, signing(stale), signing(fresh), ...lists(stale), ...lists(fresh), ...answers(fresh)];
    expect((await appraise(parts, now)).failures).toEqual([]);
    expect((await appraise([quote, signing(fresh), ...lists(stale), ...answers(fresh)], now)).failures).toContain(
      'revocation/stale',
    );
    const sgx = members('sgx-00a067110000-2025-06');
    const both = [...answers(sgx), utf8(sgx['pck_crl_issuer_chain'] ?? ''), bytes(sgx['pck_crl']), ...parts];
    expect((await appraise(both, now)).failures).toEqual([]);
    expect((await appraise([quote, ...answers(sgx), ...lists(fresh), signing(fresh)], now)).failures).toEqual([
      'collateral/wrong-id',
      'collateral/wrong-id',
    ]);
  });

  test('certificates of many chips', async () => {
    const inputs = [read('snp/reports/genoa-v3-msft.bin'), ...all('snp/certs'), ...all('snp/chains')];
    expect((await appraise(inputs, '2026-03-01T00:00:00Z')).failures).toEqual([]);
  });
});

describe('endorsements alone', () => {
  test('a RIM: who signed it', async () => {
    const ocsp = read('nvidia/ocsp/gpu_driver_rim_l4.der');
    expect(await appraise([...H100.slice(2, 3), ocsp], H100_AT)).toMatchObject({ accepted: true });
    const bad = read('nvidia/rims/incorrect_signature_driver_rim.xml');
    expect((await appraise([bad], '2025-09-01T00:00:00Z')).failures).toEqual(['collateral/rim-signature']);
  });

  test('certificates: whether they lead to a pinned root', async () => {
    const chain = ['gce-ak.txtar', 'gce-ek-ak-root.pem'].map((name) => read(`tpm/${name}`));
    expect(await appraise(chain, '2025-09-01T00:00:00Z')).toMatchObject({ accepted: true });
    expect((await appraise(chain, '2055-09-01T00:00:00Z')).failures).toEqual(['certificate/expired']);
    expect((await appraise(chain.slice(0, 1), '2025-09-01T00:00:00Z')).failures).toEqual([
      'certificate/untrusted-root',
    ]);
  });

  test('nothing else', async () => {
    const crl = read('snp/crls/milan.crl.der');
    expect((await appraise([crl], SNP_AT)).failures).toEqual(['parse/unknown-input']);
    const jwks = read('tokens/nras-prod-h100-20250611.jwks.json');
    expect((await appraise([jwks], SNP_AT)).failures).toEqual(['parse/unknown-input']);
  });
});

describe("a paravisor's report without a TPM quote", () => {
  const NOW = '2026-03-01T00:00:00Z';
  const json = (name: string) =>
    JSON.parse(new TextDecoder().decode(read(`tpm/${name}.json`))) as Record<
      'hcl_report' | 'vcek' | 'td_quote',
      string
    >;
  const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64url'));

  test('of SNP: its hardware report is verified, and that it covers the runtime data', async () => {
    const { hcl_report, vcek } = json('az-snp-evidence-v1');
    const certificates = [bytes(vcek), read('snp/chains/ask_ark_milan.pem')];
    const hcl = bytes(hcl_report);
    expect((await appraise([hcl, ...certificates], NOW)).failures).toEqual([]);
    const flipped = (at: number) => hcl.with(at, (hcl[at] ?? 0) ^ 1);
    expect((await appraise([flipped(32 + 0x90), ...certificates], NOW)).failures).toEqual([
      'evidence/report-signature',
    ]);
    const runtime = Buffer.from(hcl).indexOf('HCLEkPub');
    expect((await appraise([flipped(runtime), ...certificates], NOW)).failures).toEqual(['evidence/runtime-data-hash']);
    expect((await appraise([hcl], NOW)).failures).toEqual(['collateral/missing']);
  });

  test('of TDX: nothing without its TD quote', async () => {
    const { hcl_report, td_quote } = json('az-tdx-evidence-v1');
    const certificates = read('snp/chains/ask_ark_milan.pem');
    expect((await appraise([bytes(hcl_report), certificates], NOW)).failures).toContain('collateral/missing');
    const beside = [bytes(hcl_report), read('tdx/quotes/v4-phala-b0c06f.bin')];
    expect((await appraise(beside, NOW)).failures).toContain('binding/report-data');
    expect((await appraise([bytes(hcl_report), bytes(td_quote)], NOW)).failures).toEqual(['collateral/missing']);
  });

  test('beside TPM evidence of another machine', async () => {
    const inputs = [read('tpm/az-snp-evidence-v1.json'), read('tpm/az-snp.hcl-report.bin')];
    expect((await appraise(inputs, NOW)).failures).toEqual(['parse/unknown-input']);
  });
});

describe('TPM evidence', () => {
  const NOW = '2026-03-01T00:00:00Z';
  test('is verified down to the hardware where its chain is there', async () => {
    const inputs = [read('tpm/az-snp-evidence-v1.json'), read('snp/chains/ask_ark_milan.pem')];
    const { accepted, claims } = await appraise(inputs, NOW);
    expect({ accepted, tpm: claims.tpm.map(({ kind }) => kind) }).toEqual({ accepted: true, tpm: ['azure'] });
  });

  test('without the chain, the certificate beside the report must have signed it', async () => {
    const text = new TextDecoder().decode(read('tpm/az-snp-evidence-v1.json'));
    const json = JSON.parse(text) as { hcl_report: string };
    const hcl = Buffer.from(json.hcl_report, 'base64url');
    hcl[32 + 0x90] = (hcl[32 + 0x90] ?? 0) ^ 1; // the launch measurement
    const changed = utf8(text.replace(json.hcl_report, hcl.toString('base64url')));
    expect((await appraise([changed], NOW)).failures).toEqual(['evidence/report-signature']);
  });

  test('is verified up to the pinned ARK without AMD’s chain, and never on the word of its VCEK', async () => {
    const text = new TextDecoder().decode(read('tpm/az-snp-evidence-v1.json'));
    const genuine = await appraise([utf8(text)], NOW);
    expect(genuine.failures).toEqual([]);
    expect(genuine.findings).toContainEqual({ check: 'certificate chain', outcome: 'passed' });
    // Somebody's own key signs what they please, under a certificate that reads as AMD's.
    const json = JSON.parse(text) as { hcl_report: string; vcek: string };
    const hcl = Buffer.from(json.hcl_report, 'base64url');
    const amd = await makeSyntheticAmd('Turin');
    const leaf = await amd.issueLeaf(TURIN_LEAF);
    const reportData = hcl.subarray(32 + 0x50, 32 + 0x90);
    hcl.set(await makeReport(leaf.key, { 0x50: [...reportData] }), 32);
    const forged = {
      ...json,
      hcl_report: hcl.toString('base64url'),
      vcek: Buffer.from(leaf.der).toString('base64url'),
    };
    for (const beside of [[], [amd.ask, amd.ark]])
      expect((await appraise([utf8(JSON.stringify(forged)), ...beside], NOW)).failures).toEqual([
        beside.length === 0 ? 'certificate/wrong-product' : 'certificate/untrusted-root',
      ]);
  });

  test('with a VCEK that is changed in any signed byte', async () => {
    const json = JSON.parse(new TextDecoder().decode(read('tpm/az-snp-evidence-v1.json'))) as { vcek: string };
    const vcek = Buffer.from(json.vcek, 'base64url');
    vcek.write('SEV-VCEX', vcek.indexOf('SEV-VCEK'));
    const changed = { ...json, vcek: vcek.toString('base64url') };
    expect((await appraise([utf8(JSON.stringify(changed))], NOW)).failures).toEqual(['certificate/broken-link']);
  });

  test('of version 2: the nonce is reported by the paravisor, too', async () => {
    expect((await appraise([read('tpm/az-snp-evidence-v2.json')], NOW)).failures).toEqual([]);
    const text = new TextDecoder().decode(read('tpm/az-snp-evidence-v1.json'));
    const renamed = utf8(text.replace('"version": 1', '"version": 2'));
    expect((await appraise([renamed], NOW)).failures).toEqual(['binding/nonce-mismatch']);
  });

  test('in several files: the same is verified', async () => {
    type Evidence = Readonly<Record<'hcl_report' | 'td_quote' | 'vcek', string>> & { readonly tpm_quote: unknown };
    const json = (name: string) => JSON.parse(new TextDecoder().decode(read(`tpm/${name}.json`))) as Evidence;
    const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64url'));
    const snp = json('az-snp-evidence-v1');
    const hcl = bytes(snp.hcl_report);
    const quote = utf8(JSON.stringify(snp.tpm_quote));
    const chain = [bytes(snp.vcek), read('snp/chains/ask_ark_milan.pem')];
    expect((await appraise([quote, hcl], NOW)).failures).toEqual([]);
    expect((await appraise([quote, hcl, ...chain], NOW)).failures).toEqual([]);
    const measurement = 32 + 0x90;
    const changed = hcl.with(measurement, (hcl[measurement] ?? 0) ^ 1);
    expect((await appraise([quote, changed, ...chain], NOW)).failures).toEqual(['evidence/report-signature']);

    const tdx = json('az-tdx-evidence-v1');
    const parts = [utf8(JSON.stringify(tdx.tpm_quote)), bytes(tdx.hcl_report)];
    expect((await appraise(parts, NOW)).failures).toEqual([]);
    const collateral = read('tdx/collateral/00806f05-2025-10.json');
    const at = '2025-10-25T00:00:00Z';
    expect((await appraise([...parts, collateral], at)).failures).toContain('collateral/missing');
    const whole = await appraise([...parts, bytes(tdx.td_quote), collateral], at);
    expect(new Set(whole.failures)).toEqual(new Set(['tcb/out-of-date']));
    const other = read('tdx/quotes/v4-teekit-gcp-00806f05.bin');
    expect((await appraise([...parts, other, collateral], at)).failures).toContain('binding/report-data');
  });

  test('a certificate of another key does not vouch for it', async () => {
    const inputs = ['tpm-evidence.json', 'gce-ak.txtar', 'gce-ek-ak-root.pem'].map((name) => read(`tpm/${name}`));
    expect((await appraise(inputs, NOW)).failures).toEqual(['evidence/attestation-key-binding']);
  });
});

describe('a policy’s demand is not met by evidence of another kind', () => {
  const NOW = '2026-03-01T00:00:00Z';
  const production = (name: string): AppraisalPolicy =>
    parsePolicy(parse(readFileSync(new URL(`../policies/${name}.toml`, folder), 'utf8')));
  const refusals = async (inputs: readonly Uint8Array[], policy: AppraisalPolicy): Promise<readonly string[]> => {
    const { accepted, findings } = await appraiseInputs(inputs, { policy, now: new Date(NOW) });
    expect(accepted).toBe(false);
    return findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));
  };

  test.each(['cpu-only', 'production-tdx-h100', 'production-snp-h100'])('%s: by a TPM quote', async (name) => {
    for (const file of ['az-snp-evidence-v1.json', 'az-tdx-evidence-v1.json', 'tpm-evidence.json'])
      expect(await refusals([read(`tpm/${file}`)], production(name))).toContain('policy/tee-kind');
  });

  test('cpu-only: by a GPU, a token, a RIM, certificates', async () => {
    const nras = ['nras-prod-h100-20250611.json', 'nras-prod-h100-20250611.jwks.json'].map((name) =>
      read(`tokens/${name}`),
    );
    for (const inputs of [H100, nras, H100.slice(2), SNP.slice(2)])
      expect(await refusals(inputs, production('cpu-only'))).toContain('policy/tee-kind');
  });

  test('hardware below a TPM: by a TPM alone', async () => {
    const tpm = {
      attestationKey: { selfAsserted: 'a test' },
      hardware: 'required',
      secureBoot: unknown,
      pcrs: unknown,
    };
    const policy = parsePolicy({ ...production('cpu-only'), tpm });
    expect(await refusals([read('tpm/tpm-evidence.json')], policy)).toEqual(['policy/tee-kind', 'collateral/missing']);
  });

  test('a TPM or a token: by an evidence document', async () => {
    const { evidence, policy, now, close } = await appraisalFixture();
    await close();
    const document = utf8(JSON.stringify(evidence));
    const tpm = { attestationKey: 'endorsed', hardware: 'required', secureBoot: 'required', pcrs: unknown };
    const token = { issuer: 'https://nras.attestation.nvidia.com', keys: 'certified' };
    for (const demand of [{ tpm }, { token }]) {
      const { findings } = await appraiseInputs([document], { policy: parsePolicy({ ...policy, ...demand }), now });
      expect(findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []))).toEqual([
        'collateral/missing',
      ]);
    }
  });

  const unknown = { notChecked: 'a test' };
});

test('INV-04 a simulated GPU without a CPU is said to be simulated', async () => {
  const { evidence, policy, now, close } = await appraisalFixture();
  await close();
  const [gpu] = evidence.gpus;
  const device = {
    evidence: Buffer.from(gpu?.report ?? '', 'base64url').toString('base64'),
    certificate: btoa(gpu?.certificates ?? ''),
  };
  const alone = parsePolicy({
    ...policy,
    tee: { kind: 'none', notRequired: 'a test' },
    binding: { notRequired: 'a test' },
  });
  const inputs = [utf8(JSON.stringify([device]))];
  const { accepted, claims } = await appraiseInputs(inputs, { policy: alone, now });
  expect({ accepted, simulated: claims.simulated }).toEqual({ accepted: true, simulated: true });
});

test('an evidence document stands alone', async () => {
  const document = utf8('{"format":"cfn/evidence/v1"}');
  expect(() => gather([document])).toThrow(expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }) as Error);
});
