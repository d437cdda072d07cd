import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { appraisalFixture } from '../attestation/appraisal.fixture.ts';
import { toHex } from '../proto/index.ts';
import { run } from './run.ts';
import { recordingContext } from './testkit.ts';

const vectors = fileURLToPath(new URL('../attestation/vectors/', import.meta.url));

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-attest-'));
});
afterAll(() => rm(cwd, { recursive: true }));

async function cfn(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { context, written } = recordingContext({ cwd });
  return { code: await run(args, context), ...written };
}

const QUOTE = `${vectors}tdx/quotes/v4-phala-b0c06f.bin`;
const COLLATERAL = `${vectors}tdx/collateral/b0c06f-2025-06.json`;
const AT = ['--now', '2025-06-25T00:00:00Z'];
/** What that quote measures. */
const REFERENCES = {
  mrtd: '91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7',
  rtmr0: '44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0',
  rtmr1: '0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378',
  rtmr2: 'd833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132',
};
const references = (change: Partial<typeof REFERENCES> = {}): string[] =>
  Object.entries({ ...REFERENCES, ...change }).flatMap(([name, value]) => ['--reference', `${name}=${value}`]);

describe('cfn attest verify', () => {
  test('accepts with 0, in any order, and lists every check and what was not checked', async () => {
    const { code, stdout, stderr } = await cfn(
      'attest',
      'verify',
      COLLATERAL,
      QUOTE,
      '--policy',
      'cpu-only',
      ...AT,
      ...references(),
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^ACCEPTED\npolicy cpu-only \([0-9a-f]{64}\), at 2025-06-25T00:00:00\.000Z\n/);
    expect(stdout).toContain('inputs: intel-collateral, tdx-quote\n');
    expect(stdout).toMatch(/^ {2}quote: signature +passed$/m);
    expect(stdout).toMatch(/NOT checked, and why:\n {2}freshness +no nonce was given\n/);
    expect(stdout).toMatch(/^ {6}mrtd: 91eb2b44/m);
  });

  test('as JSON', async () => {
    const { stdout } = await cfn(
      'attest',
      'verify',
      QUOTE,
      COLLATERAL,
      '--policy',
      'cpu-only',
      ...AT,
      ...references(),
      '--json',
    );
    expect(JSON.parse(stdout)).toMatchObject({
      accepted: true,
      now: '2025-06-25T00:00:00.000Z',
      inputs: ['tdx-quote', 'intel-collateral'],
      claims: { tdx: [{ fmspc: 'b0c06f000000', tcb: { status: 'UpToDate' } }] },
    });
  });

  test('refuses with 4 and every reason; a ready-made policy accepts no measurement by itself', async () => {
    const { code, stdout } = await cfn('attest', 'verify', QUOTE, COLLATERAL, '--policy', 'cpu-only', ...AT, '--json');
    const { accepted, findings } = JSON.parse(stdout) as {
      accepted: boolean;
      findings: { check: string; reason?: string }[];
    };
    expect({ code, accepted }).toEqual({ code: 4, accepted: false });
    expect(findings.filter(({ reason }) => reason === 'policy/measurement').map(({ check }) => check)).toEqual([
      'MRTD',
      'RTMR0',
      'RTMR1',
      'RTMR2',
    ]);
  });

  test('refuses without collateral, another measurement, a nonce that is not there, and a GPU that is missing', async () => {
    const verify = async (policy: string, files: string[], ...args: string[]): Promise<string[]> => {
      const { code, stdout } = await cfn('attest', 'verify', ...files, '--policy', policy, ...AT, ...args, '--json');
      expect(code).toBe(4);
      const { findings } = JSON.parse(stdout) as { findings: { reason?: string }[] };
      return findings.flatMap(({ reason }) => reason ?? []);
    };
    expect(await verify('cpu-only', [QUOTE], ...references())).toEqual(['collateral/missing']);
    const other = references({ mrtd: '00'.repeat(48) });
    expect(await verify('cpu-only', [QUOTE, COLLATERAL], ...other)).toEqual(['policy/measurement']);
    expect(await verify('cpu-only', [QUOTE, COLLATERAL], ...references(), '--nonce', '01'.repeat(32))).toEqual([
      'binding/nonce-mismatch',
    ]);
    expect(await verify('production-tdx-h100', [QUOTE, COLLATERAL], ...references())).toEqual([
      'policy/gpu-count',
      'binding/level',
    ]);
    expect(await verify('production-snp-h100', [QUOTE, COLLATERAL])).toContain('policy/tee-kind');
  });

  test('takes a policy as TOML and as JSON', async () => {
    const toml = await readFile(new URL('../attestation/policies/cpu-only.toml', import.meta.url), 'utf8');
    await writeFile(join(cwd, 'mine.toml'), toml);
    expect((await cfn('attest', 'verify', QUOTE, COLLATERAL, '--policy', join(cwd, 'mine.toml'), ...AT)).code).toBe(4);
    await writeFile(join(cwd, 'mine.json'), '{"format":"cfn/appraisal-policy/v1"}');
    const { code, stderr } = await cfn('attest', 'verify', QUOTE, '--policy', join(cwd, 'mine.json'), ...AT);
    expect(stderr).toContain('CFN_POLICY_INVALID');
    expect(code).toBe(2);
  });

  test('a simulated document: under its own policy, never under a production one', async () => {
    const { evidence, policy, nonce, close } = await appraisalFixture();
    await close();
    await writeFile(join(cwd, 'evidence.json'), JSON.stringify(evidence));
    await writeFile(join(cwd, 'simulated.json'), JSON.stringify(policy));
    const verify = (...args: string[]) => cfn('attest', 'verify', join(cwd, 'evidence.json'), ...args);
    const own = ['--policy', join(cwd, 'simulated.json')];
    const accepted = await verify(...own, '--nonce', toHex(nonce));
    expect(accepted).toMatchObject({ code: 0, stderr: '' });
    expect(accepted.stdout).toMatch(/^ACCEPTED\nSIMULATED: no hardware vouches for this evidence\npolicy .* \(now\)\n/);
    expect(accepted.stdout).toContain('binding of CPU and GPU: one-report');
    expect(await verify(...own, '--nonce', '00'.repeat(32))).toMatchObject({
      code: 4,
      stdout: expect.stringContaining('binding/nonce-mismatch'),
    });
    expect(await verify('--policy', 'production-tdx-h100')).toMatchObject({
      code: 4,
      stdout: expect.stringContaining('policy/tee-kind'),
    });
  });

  test.each([
    ['malformed evidence', () => [join(cwd, 'broken')], [], 'CFN_EVIDENCE_MALFORMED'],
    ['a file that is not there', () => [join(cwd, 'nothing')], [], 'CFN_INPUT_INVALID'],
    ['a file without an end', () => ['/dev/zero'], [], 'CFN_INPUT_INVALID'],
    ['a time that is none', () => [QUOTE], ['--now', 'yesterday'], 'CFN_USAGE'],
    ['a day that is none', () => [QUOTE], ['--now', '2025-02-30T00:00:00Z'], 'CFN_USAGE'],
    ['a time of nowhere', () => [QUOTE], ['--now', '2025-06-25T00:00:00'], 'CFN_USAGE'],
    ['a policy that nobody has', () => [QUOTE], ['--policy', 'best'], 'ready-made policies are production-tdx-h100'],
    ['a nonce that is none', () => [QUOTE], ['--nonce', 'xyz'], 'CFN_USAGE'],
    ['a reference value for no list', () => [QUOTE], ['--reference', 'kind=00'], 'CFN_USAGE'],
  ])('ends with 2 for %s', async (_, files, args, expected) => {
    await writeFile(join(cwd, 'broken'), (await readFile(QUOTE)).subarray(0, 700));
    const { code, stdout, stderr } = await cfn('attest', 'verify', ...files(), '--policy', 'cpu-only', ...args);
    expect(stderr).toContain(expected);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });
});

test('cfn attest collect says that there is no TEE here', async () => {
  const { code, stdout, stderr } = await cfn('attest', 'collect');
  expect(stderr).toContain('CFN_TEE_ABSENT');
  expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
});

describe('cfn conformance', () => {
  test.each(['tdx', 'snp', 'nvidia', 'tpm', 'tokens'])('%s: every recorded case is as expected', async (family) => {
    const { code, stdout } = await cfn('conformance', vectors + family);
    expect(stdout).toMatch(/^\d+ passed, 0 failed\n$/);
    expect(code).toBe(0);
  });

  const subject = {
    id: 'one',
    inputs: ['quote.bin', 'sub/*'],
    now: '2025-06-25T00:00:00Z',
    expect: 'accept',
    fields: { mrtd: REFERENCES.mrtd, unheardOf: 1 },
    tcbStatus: 'UpToDate',
    advisoryIDs: [],
  };
  async function folder(...cases: unknown[]): Promise<string> {
    const path = join(cwd, 'cases');
    await mkdir(join(path, 'sub'), { recursive: true });
    await writeFile(join(path, 'quote.bin'), await readFile(QUOTE));
    await writeFile(join(path, 'sub/any-name'), await readFile(COLLATERAL));
    await writeFile(join(path, 'cases.json'), JSON.stringify(cases));
    return path;
  }

  test('says one line for each case that differs, then how many', async () => {
    const path = await folder(
      subject,
      { ...subject, id: 'wrong-field', fields: { mrtd: '00' } },
      { ...subject, id: 'wrong-status', tcbStatus: 'OutOfDate', advisoryIDs: ['INTEL-SA-00001'] },
      { ...subject, id: 'expected-reject', expect: 'reject' },
      { ...subject, id: 'not-by-default', expect: 'reject-by-default' },
      { ...subject, id: 'too-late', now: '2026-06-25T00:00:00Z' },
      { ...subject, id: 'no-file', inputs: ['nothing'], expect: 'reject' },
      { ...subject, id: 'outside', inputs: ['../evidence.json'], expect: 'reject' },
    );
    const { code, stdout } = await cfn('conformance', path);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(':')[0])).toEqual([
      'wrong-field',
      'wrong-status',
      'expected-reject',
      'not-by-default',
      'too-late',
      'no-file',
      'outside',
      '1 passed, 7 failed',
    ]);
    expect(lines[1]).toMatch(/tcbStatus is "UpToDate", expected "OutOfDate"; advisoryIDs is \[\], expected/);
    expect(lines[4]).toMatch(/expected accept, got reject .*collateral\/expired/);
    expect(code).toBe(4);
  });

  test('carries out what cases ask for in words, for refusals alone', async () => {
    const bit = 'flip one bit of the quote';
    const path = await folder(
      { ...subject, id: 'bit', expect: 'reject', reason: bit, fields: null, tcbStatus: null, advisoryIDs: null },
      { ...subject, id: 'accepted-unchanged', reason: bit },
    );
    expect((await cfn('conformance', path)).stdout).toBe('2 passed, 0 failed\n');
  });

  test('a folder without cases ends with 2, and a broken case does not hide the others', async () => {
    expect(await cfn('conformance', join(cwd, 'nowhere'))).toMatchObject({ code: 2 });
    const { code, stdout } = await cfn('conformance', await folder({ id: 'x' }, subject, 7));
    expect(stdout).toMatch(/^x: not a case: inputs: .*\ncase 2: not a case: .*\n1 passed, 2 failed\n$/);
    expect(code).toBe(4);
  });
});
