import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleFunction } from '../artifacts/index.ts';
import { runCfn } from './testkit.ts';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-cli-'));
});
afterAll(() => rm(cwd, { recursive: true }));

test('says what there is', async () => {
  const { code, stdout, stderr } = await runCfn(['--help'], { cwd });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  for (const verb of [
    'init',
    'dev',
    'deploy',
    'invoke',
    'model',
    'verify',
    'receipt',
    'attest',
    'conformance',
    'gateway',
    'kms',
    'keys',
    'worker',
  ]) {
    expect(stdout).toMatch(new RegExp(`^  ${verb} `, 'm'));
  }
  expect((await runCfn(['model', 'push', '--help'], { cwd })).stdout).toContain('--json');
});

describe('a wrong call ends with 2 and says how to go on', () => {
  test.each([
    ['no command', [], /expected a command/],
    ['an unknown command, with the nearest', ['deplyo'], /unknown command 'deplyo' \(Did you mean deploy\?\)/],
    ['an unknown flag', ['deploy', '--gatway', 'http://x'], /unknown option '--gatway'/],
    ['a missing argument', ['invoke'], /missing required argument/],
    ['a function without a tenant', ['invoke', 'ocr'], /expected tenant\/function/],
    ['a model without a name', ['model', 'push', 'x.onnx'], /--name/],
    [
      'no gateway',
      ['verify', 'demo/ocr'],
      /missing: URL of the gateway; give --gateway <url>, CFN_GATEWAY, or "gateway" in \.cfn\/config\.json/,
    ],
    [
      'no policy for a sealed request',
      ['invoke', 'demo/ocr', '--gateway', 'http://127.0.0.1:1'],
      /missing: appraisal policy/,
    ],
    [
      'a header that is none',
      ['invoke', 'demo/ocr', '--gateway', 'http://127.0.0.1:1', '-H', 'secret'],
      /-H: expected "name: value"/,
    ],
    ['a receipt that is no file', ['receipt', 'verify', 'nope', '--policy', 'p.json'], /p\.json/],
    ['a template without its model', ['init', 'x', '--template', 'model'], /--model owner\/name@version/],
    ['a port that is none', ['dev', '--port', '99999'], /--port: expected 0 to 65535/],
    ['a flag that the service does not know', ['kms', 'serve', '--bogus'], /bogus/],
  ])('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await runCfn(args, { cwd });
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  test('in two lines: the message, then code and remedy', async () => {
    const { stderr } = await runCfn(['invoke', 'ocr'], { cwd });
    expect(stderr).toBe('cfn: expected tenant/function, have ocr\ncfn: CFN_USAGE: See `cfn --help`.\n');
  });

  test('with --json as one problem on stderr', async () => {
    const { code, stdout, stderr } = await runCfn(['invoke', 'ocr', '--json'], { cwd });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse(stderr)).toMatchObject({
      code: 'CFN_USAGE',
      status: 400,
      detail: 'expected tenant/function, have ocr',
    });
  });
});

test('a service that does not answer ends with 3', async () => {
  const { code, stderr } = await runCfn(['invoke', 'demo/ocr', '--open', '--gateway', 'http://127.0.0.1:1'], { cwd });
  expect(stderr).toContain('CFN_GATEWAY_UNREACHABLE');
  expect(code).toBe(3);
});

test('a policy that is none ends with 2 before anything is sent', async () => {
  await writeFile(join(cwd, 'policy.json'), '{}');
  const { code, stderr } = await runCfn(
    ['verify', 'demo/ocr', '--gateway', 'http://127.0.0.1:1', '--policy', 'policy.json'],
    { cwd },
  );
  expect(stderr).toContain('CFN_POLICY_INVALID');
  expect(code).toBe(2);
});

describe('cfn init', () => {
  test.each([
    ['hello', []],
    ['model', ['--model', 'acme/thing@1']],
  ])('makes a project from %s that builds', async (template, extra) => {
    const ended = await runCfn(['init', `my-${template}`, '--template', template, ...extra, '--json'], { cwd });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(ended.stdout)).toMatchObject({ name: `my-${template}`, template });
    const { config } = await bundleFunction({ projectDir: join(cwd, `my-${template}`) });
    expect(config.name).toBe(`my-${template}`);
    expect(config.models).toEqual(template === 'model' ? [{ binding: 'MODEL', model: 'acme/thing@1' }] : []);
    expect(await readFile(join(cwd, `my-${template}`, 'src/index.ts'), 'utf8')).toContain("from './cfn.ts'");
  });

  test('refuses a folder that is not empty, and a name that no path can hold', async () => {
    await runCfn(['init', 'twice'], { cwd });
    expect(await runCfn(['init', 'twice'], { cwd })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CFN_CONFLICT'),
    });
    expect(await runCfn(['init', 'Not_A_Name'], { cwd })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('CFN_USAGE'),
    });
  });
});

test('a project that does not build ends with 2 and the author’s line', async () => {
  await runCfn(['init', 'broken'], { cwd });
  await writeFile(join(cwd, 'broken/src/index.ts'), `import 'node:fs';\n`);
  const env = { CFN_GATEWAY: 'http://127.0.0.1:1', CFN_TOKEN: 'x', CFN_TENANT: 'demo' };
  const { code, stderr } = await runCfn(['deploy', 'broken'], { cwd, env });
  expect(stderr).toMatch(/src\/index\.ts:1:8: "node:fs" is not available.*\ncfn: CFN_BUNDLE_FAILED: /);
  expect(code).toBe(2);
});
