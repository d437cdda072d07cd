import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from './run.ts';
import { recordingContext } from './testkit.ts';

const vectors = fileURLToPath(new URL('../attestation/vectors/tdx/', import.meta.url));
const EVIDENCE = [`${vectors}quotes/v4-phala-b0c06f.bin`, `${vectors}collateral/b0c06f-2025-06.json`];
const MRTD = '91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7';
const RTMRS = [
  '44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0',
  '0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378',
  'd833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132',
];
const POLICY = [
  '--policy',
  'cpu-only',
  ...[`mrtd=${MRTD}`, ...RTMRS.map((value, i) => `rtmr${i}=${value}`)].flatMap((value) => ['--reference', value]),
];
const AT = '2025-06-25T00:00:00Z';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-ear-'));
  await attest([...EVIDENCE, ...POLICY, '--now', AT, '--ear', 'key.jwk', '--out', 'ear.jwt']);
  await attest([...EVIDENCE, ...POLICY, '--now', AT, '--ear', 'other.jwk', '--out', 'other.jwt']);
});
afterAll(() => rm(cwd, { recursive: true }));

async function attest(flags: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { context, written } = recordingContext({ cwd });
  const code = await run(['attest', 'verify', ...flags], context);
  return { code, stdout: written.stdout, stderr: written.stderr };
}
const verifyEar = async (file: string, ...flags: string[]) => {
  const { code, stdout } = await attest([file, '--ear-key', 'key.jwk.pub', '--now', AT, '--json', ...flags]);
  const { findings, claims } = JSON.parse(stdout) as {
    findings: { reason?: string }[];
    claims: { submodules: { status: string; trustVector: object }[] };
  };
  return { code, reasons: findings.flatMap(({ reason }) => reason ?? []), claims };
};

describe('cfn attest verify --ear', () => {
  test('makes a key that only its owner reads, and gives the public half out', async () => {
    expect((await stat(join(cwd, 'key.jwk'))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(cwd, 'key.jwk.pub'), 'utf8')).not.toContain('"d"');
  });

  test('gives out a result that verifies: what the policy checked is affirmed, and nothing else', async () => {
    const { code, reasons, claims } = await verifyEar('ear.jwt', ...POLICY);
    expect({ code, reasons }).toEqual({ code: 0, reasons: [] });
    expect(claims.submodules).toMatchObject([
      { status: 'affirming', trustVector: { hardware: 2, executables: 3, 'runtime-opaque': 2 } },
    ]);
    expect(claims.submodules[0]?.trustVector).not.toHaveProperty('instance-identity');
  });

  test('writes the token alone to stdout; a refusal is one, too', async () => {
    const { code, stdout } = await attest([...EVIDENCE, '--policy', 'cpu-only', '--now', AT, '--ear', 'key.jwk']);
    expect(code).toBe(4);
    await writeFile(join(cwd, 'refused.jwt'), stdout);
    expect(await verifyEar('refused.jwt')).toMatchObject({
      code: 4,
      reasons: ['evidence/token-result'],
      claims: { submodules: [{ status: 'contraindicated' }] },
    });
  });
});

describe('cfn attest verify --ear-key refuses', () => {
  test('another key’s result', async () => {
    expect(await verifyEar('other.jwt')).toMatchObject({ code: 4, reasons: ['evidence/token-kid-unknown'] });
  });

  test('an altered one', async () => {
    const [header, payload = '', signature] = (await readFile(join(cwd, 'refused.jwt'), 'utf8')).trim().split('.');
    const claims = Buffer.from(payload, 'base64url').toString().replaceAll('contraindicated', 'affirming');
    const altered = [header, Buffer.from(claims).toString('base64url'), signature].join('.');
    await writeFile(join(cwd, 'altered.jwt'), altered);
    const { code, reasons } = await verifyEar('altered.jwt');
    expect(code).toBe(4);
    expect(reasons).toContain('evidence/token-signature');
  });

  test('one that has ended, or is not valid yet', async () => {
    for (const now of ['2025-06-25T01:00:01Z', '2025-06-24T23:59:59Z']) {
      const { code, reasons } = await verifyEar('ear.jwt', '--now', now);
      expect({ code, count: reasons.length }).toEqual({ code: 4, count: 1 });
    }
  });

  test('one without the nonce, or made under another policy', async () => {
    expect(await verifyEar('ear.jwt', '--nonce', '00'.repeat(32))).toMatchObject({
      code: 4,
      reasons: ['binding/nonce-empty'],
    });
    expect(await verifyEar('ear.jwt', '--policy', 'cpu-only')).toMatchObject({
      code: 4,
      reasons: ['evidence/token-claims'],
    });
    const nonce = '0123456789abcdef'.repeat(4);
    await attest([...EVIDENCE, ...POLICY, '--now', AT, '--nonce', nonce, '--ear', 'key.jwk', '--out', 'answer.jwt']);
    expect((await verifyEar('answer.jwt', '--nonce', nonce)).reasons).not.toContain('binding/nonce-mismatch');
    expect((await verifyEar('answer.jwt', '--nonce', 'ff'.repeat(32))).reasons).toContain('binding/nonce-mismatch');
  });

  test('with 2: what is no token, no key, or too many files', async () => {
    for (const flags of [
      [EVIDENCE[1], '--ear-key', 'key.jwk.pub'],
      ['ear.jwt', '--ear-key', 'key.jwk'],
      ['ear.jwt', 'other.jwt', '--ear-key', 'key.jwk.pub'],
      ['ear.jwt'],
      [...EVIDENCE, ...POLICY, '--nonce', '00ff', '--ear', 'key.jwk'],
    ])
      expect((await attest([...flags.flatMap((flag) => flag ?? []), '--now', AT])).code, String(flags)).toBe(2);
  });
});
