import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn, type Ended } from '../cli/testkit.ts';
import { receiptSchema } from '../proto/index.ts';
import { startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

/** Whole sessions with `cfn`, each command a process, against a system of real processes. */

let system: TestSystem;
let cwd: string;
let env: Record<string, string>;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-session-'));
  system = await startTestSystem();
  const { gateway, token, kms, kmsToken, policy } = system.local.config;
  env = { CFN_GATEWAY: gateway, CFN_TOKEN: token, CFN_KMS: kms, CFN_KMS_TOKEN: kmsToken, CFN_POLICY: policy };
  expect(await cfn('init', 'greeter')).toMatchObject({ code: 0 });
  expect(await cfn('deploy', 'greeter')).toMatchObject({ code: 0 });
  expect(await cfn('invoke', 'demo/greeter', '/?name=Ann', '--receipt-out', 'receipt.jws')).toMatchObject({ code: 0 });
});
afterAll(async () => {
  await system?.stop();
  await rm(cwd, { recursive: true });
});

const cfn = (...args: string[]): Promise<Ended> => runCfn(args, { cwd, env });
async function json(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await cfn(...args, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('the same source deploys as the same version', async () => {
  const first = await json('deploy', 'greeter');
  const second = await json('deploy', 'greeter');
  expect(first).toMatchObject({ tenant: 'demo', name: 'greeter', workers: [{ loaded: true }] });
  expect(second['version']).toBe(first['version']);
});

describe('cfn invoke', () => {
  test('seals, prints the body alone on stdout, and says SIMULATED', async () => {
    const { code, stdout, stderr } = await cfn('invoke', 'demo/greeter', '/?name=Bo');
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Hello, Bo!\n' });
    expect(stderr).toMatch(
      /status 200\nSIMULATED worker .*\nsealed end to end with MLKEM768-X25519; .*receipt verified\n$/,
    );
  });

  test('--open says that the gateway saw it', async () => {
    const { stdout, stderr } = await cfn('invoke', 'demo/greeter', '--open', '--receipt-out', 'open.jws');
    expect(stdout).toBe('Hello, world!\n');
    expect(stderr).toMatch(/OPEN: the gateway saw request and answer; .*SIMULATED/);
  });

  test('refuses another version than the pinned one, with 4 and nothing sent', async () => {
    const { code, stdout, stderr } = await cfn('invoke', 'demo/greeter', '--pin', '0'.repeat(64));
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toContain('CFN_VERSION_MISMATCH');
  });

  test('ends with 2 for a function that is not there, and for one that throws', async () => {
    expect(await cfn('invoke', 'demo/nobody')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CFN_FUNCTION_NOT_FOUND'),
    });
    await system.deploy('thrower', 'export default { fetch() { throw new Error("x") } }');
    const { code, stderr } = await cfn('invoke', 'demo/thrower', '--json');
    expect(JSON.parse(stderr)).toMatchObject({ code: 'CFN_FUNCTION_THREW' });
    expect(code).toBe(2);
  });

  test('leaves a function’s own error answer alone, even one that looks like ours', async () => {
    const source = `export default { fetch: () => new Response('{"code":"CFN_GRANT_MISSING","detail":"x"}', { status: 403, headers: { 'content-type': 'application/problem+json' } }) }`;
    await system.deploy('actor', source);
    const { code, stdout } = await cfn('invoke', 'demo/actor');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '{"code":"CFN_GRANT_MISSING","detail":"x"}' });
  });
});

describe('what does not hold under the policy ends with 4', () => {
  const VERBS: readonly string[][] = [
    ['verify', 'demo/greeter'],
    ['invoke', 'demo/greeter'],
    ['receipt', 'verify', 'receipt.jws'],
  ];

  async function refusals(change: (policy: Record<string, unknown>) => object): Promise<object[]> {
    const policy = JSON.parse(await readFile(env['CFN_POLICY'] ?? '', 'utf8')) as Record<string, unknown>;
    await writeFile(join(cwd, 'other.json'), JSON.stringify(change(policy)));
    const runs = await Promise.all(VERBS.map((args) => cfn(...args, '--policy', 'other.json', '--json')));
    return runs.map(({ code, stdout, stderr }) => ({
      code,
      stdout,
      error: (JSON.parse(stderr) as { code: string }).code,
    }));
  }

  test('a measurement that is no reference value', async () => {
    const all = { code: 4, stdout: '', error: 'CFN_MEASUREMENT_UNKNOWN' };
    expect(
      await refusals((policy) => ({ ...policy, tee: { ...(policy['tee'] as object), mrtd: ['0'.repeat(96)] } })),
    ).toEqual([all, all, all]);
  });

  test('a root that the policy does not name', async () => {
    const all = { code: 4, stdout: '', error: 'CFN_CHAIN_UNTRUSTED' };
    const tee = (policy: Record<string, unknown>): object => ({ ...(policy['tee'] as object), root: '0'.repeat(64) });
    expect(await refusals((policy) => ({ ...policy, tee: tee(policy) }))).toEqual([all, all, all]);
  });
});

test('cfn verify lists every check and what was not checked, of evidence made for our nonce', async () => {
  const { workers, ...rest } = (await json('verify', 'demo/greeter')) as {
    workers: { findings: { check: string; outcome: string; detail?: string }[] }[];
  };
  expect(rest).toMatchObject({ function: 'demo/greeter', fresh: true, simulated: true, refused: [] });
  const of = (outcome: string): string[] =>
    (workers[0]?.findings ?? []).filter((finding) => finding.outcome === outcome).map(({ check }) => check);
  expect(of('passed')).toEqual(expect.arrayContaining(['nonce', 'binding: report data', 'quote: signature', 'MRTD']));
  expect(of('skipped')).toContain('collateral');
  expect(of('failed')).toEqual([]);

  const { stdout } = await cfn('verify', 'demo/greeter', '--recorded');
  expect(stdout).toContain('that it is fresh is not proven by this');
  expect(stdout).toMatch(/^ {2}SIMULATED: /m);
  expect(stdout).toMatch(/^ {2}checked: binding: report data$/m);
  expect(stdout).toMatch(/^ {2}NOT checked: collateral: /m);
});

describe('cfn receipt verify', () => {
  test('answers where the data went, with every claim', async () => {
    const { code, stdout } = await cfn('receipt', 'verify', 'receipt.jws');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^SIMULATED: /);
    expect(stdout).toContain('It was seen by the function demo/greeter, ');
    expect(stdout).toContain('Nothing was sent to any other host.');
    expect(stdout).toContain('Not proven by this\n  that the evidence was fresh');
    const { receipt } = (await json('receipt', 'verify', 'receipt.jws')) as { receipt: object };
    for (const claim of Object.keys(receiptSchema.parse(receipt)))
      expect(stdout).toMatch(new RegExp(`^ {2}${claim}[ .]`, 'm'));
  });

  test('takes a request id as well', async () => {
    const { receipt } = (await json('receipt', 'verify', 'receipt.jws')) as { receipt: { id: string } };
    expect(await json('receipt', 'verify', receipt.id)).toMatchObject({ verified: true, receipt });
    expect(await cfn('receipt', 'verify', 'f'.repeat(32))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CFN_RECEIPT_NOT_FOUND'),
    });
  });

  test.each([
    ['a claim changed', (claims: Record<string, unknown>) => ({ ...claims, sequence: 7 })],
    ['a claim added', (claims: Record<string, unknown>) => ({ ...claims, note: 'x' })],
    ['a time to come', (claims: Record<string, unknown>) => ({ ...claims, issuedAt: '2126-01-01T00:00:00.000Z' })],
  ])('refuses one with %s', async (_, change) => {
    const [header, payload = '', signature] = (await readFile(join(cwd, 'receipt.jws'), 'utf8')).trim().split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
    const altered = Buffer.from(JSON.stringify(change(claims))).toString('base64url');
    await writeFile(join(cwd, 'altered.jws'), [header, altered, signature].join('.'));
    const { code, stdout, stderr } = await cfn('receipt', 'verify', 'altered.jws');
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toContain('CFN_RECEIPT_INVALID');
  });

  test('refuses a file that is no receipt', async () => {
    await writeFile(join(cwd, 'photo.jpg'), Buffer.from([0xff, 0xd8, 0xff]));
    expect(await cfn('receipt', 'verify', 'photo.jpg')).toMatchObject({
      code: 4,
      stdout: '',
      stderr: expect.stringContaining('CFN_RECEIPT_INVALID'),
    });
  });
});

describe('cfn model', { timeout: 120_000 }, () => {
  test('a function without the grant is refused its model; with it, it runs', async () => {
    const pushed = await json('model', 'push', VAD_MODEL, '--name', 'demo/vad@1');
    expect(pushed).toMatchObject({ model: 'demo/vad@1', digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(await cfn('init', 'speech', '--template', 'model', '--model', 'demo/vad@1')).toMatchObject({ code: 0 });

    const refused = await cfn('deploy', 'speech', '--json');
    expect(JSON.parse(refused.stdout)).toMatchObject({
      name: 'speech',
      workers: [{ loaded: false, code: 'CFN_GRANT_MISSING' }],
    });
    expect({ code: refused.code, error: JSON.parse(refused.stderr) }).toMatchObject({
      code: 4,
      error: { code: 'CFN_GRANT_MISSING' },
    });

    expect(
      await json('model', 'grant', 'demo/vad@1', '--to', 'demo/speech', '--author', 'self', '--lease', '1m'),
    ).toMatchObject({
      digest: pushed['digest'],
      grant: { leaseMs: 60_000 },
    });
    expect(await json('deploy', 'speech')).toMatchObject({ workers: [{ loaded: true }] });
    const { stdout } = await cfn('invoke', 'demo/speech');
    expect(JSON.parse(stdout)).toMatchObject({
      inputs: expect.arrayContaining([expect.objectContaining({ name: 'input' })]),
    });
  });

  test('refuses a name that is taken, another owner’s, an unknown model, and a grant that has ended', async () => {
    await json('model', 'push', VAD_MODEL, '--name', 'demo/twice@1');
    const runs = await Promise.all([
      cfn('model', 'push', VAD_MODEL, '--name', 'demo/twice@1', '--json'),
      cfn('model', 'push', VAD_MODEL, '--name', 'acme/vad@1', '--json'),
      cfn('model', 'push', 'nope.onnx', '--name', 'demo/nope@1', '--json'),
      cfn('model', 'grant', 'demo/nope@1', '--to', 'demo/speech', '--any-author', '--json'),
      cfn('model', 'grant', 'demo/twice@1', '--to', 'demo/speech', '--any-author', '--until', '2020-01-01', '--json'),
      cfn('model', 'grant', 'demo/twice@1', '--to', 'demo/speech', '--json'),
    ]);
    expect(runs.map(({ code, stderr }) => [code, (JSON.parse(stderr) as { code: string }).code])).toEqual([
      [2, 'CFN_CONFLICT'],
      [2, 'CFN_TOKEN_SCOPE'],
      [2, 'CFN_INPUT_INVALID'],
      [2, 'CFN_MODEL_NOT_FOUND'],
      [2, 'CFN_USAGE'],
      [2, 'CFN_USAGE'],
    ]);
  });

  test('a grant to an author is of no use to who deploys under the same name', async () => {
    await json('model', 'push', VAD_MODEL, '--name', 'demo/mine@1');
    await json('model', 'grant', 'demo/mine@1', '--to', 'demo/mine', '--author', 'self');
    expect(await cfn('init', 'mine', '--template', 'model', '--model', 'demo/mine@1')).toMatchObject({ code: 0 });
    expect(await json('deploy', 'mine')).toMatchObject({ workers: [{ loaded: true }] });
    await appendFile(join(cwd, 'mine/src/index.ts'), '\nexport const changed = true;\n'); // the same content is the same version
    const other = { ...env, CFN_AUTHOR_KEY: join(cwd, 'other.jwk') };
    const { stdout } = await runCfn(['deploy', 'mine', '--json'], { cwd, env: other });
    expect(JSON.parse(stdout)).toMatchObject({ workers: [{ loaded: false, code: 'CFN_GRANT_MISSING' }] });
  });
});
