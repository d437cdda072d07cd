import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromUtf8, sha256Hex } from '../proto/index.ts';
import { bundleFunction } from './bundle.ts';

const CONFIG = 'name = "hello"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cfn-bundle-'));
});
afterEach(() => rm(root, { recursive: true }));

async function project(name: string, files: Record<string, string>): Promise<string> {
  for (const [path, text] of Object.entries({ 'wrangler-style.toml': CONFIG, ...files })) {
    await mkdir(dirname(join(root, name, path)), { recursive: true });
    await writeFile(join(root, name, path), text);
  }
  return join(root, name);
}

test('bundles TypeScript, text and npm packages into one module, the same bytes wherever it lies', async () => {
  const files = {
    'src/index.ts': `import greeting from './greeting.txt';\nimport { twice } from 'twice';\nexport default { fetch: (r: Request): Response => new Response(twice(greeting)) };\n`,
    'src/greeting.txt': 'grüß dich',
    'node_modules/twice/package.json': '{"name":"twice","main":"main.cjs"}',
    'node_modules/twice/main.cjs': 'exports.twice = (text) => text + text;',
  };
  const first = await bundleFunction({ projectDir: await project('a', files) });
  const second = await bundleFunction({ projectDir: await project('deeper/b', files) });
  const text = fromUtf8(first.bundle);
  expect(text).toContain('grüß dich');
  expect(text).not.toMatch(/\bimport\b/);
  expect(text).not.toContain(root);
  expect(second.bundle).toEqual(first.bundle);
  expect(first.code).toEqual({ digest: await sha256Hex(first.bundle), bytes: first.bundle.length });
  expect(first.config.name).toBe('hello');
});

describe('refuses', () => {
  test.each([
    [
      'node: imports, with the line',
      `const a = 1;\nimport fs from 'node:fs';\nexport default fs;\n`,
      /^src\/index\.ts:2:16: "node:fs" is not available.*\| import fs from 'node:fs';$/,
    ],
    [
      'a built-in of Node without its prefix',
      `import fs from 'fs';\nexport default fs;\n`,
      /^src\/index\.ts:1:16: .*"fs"/,
    ],
    ['a syntax error, with the line', `export default {\n  fetch( {\n`, /^src\/index\.ts:\d+:\d+: /],
    ['a package that is not installed', `import x from 'left-out';\nexport default x;\n`, /left-out/],
  ])('%s', async (_, source, message) => {
    const projectDir = await project('p', { 'src/index.ts': source });
    await expect(bundleFunction({ projectDir })).rejects.toMatchObject({
      code: 'CFN_BUNDLE_FAILED',
      message: expect.stringMatching(message),
    });
  });

  test('a node: import inside a package', async () => {
    const projectDir = await project('p', {
      'src/index.ts': `import x from 'dep';\nexport default x;\n`,
      'node_modules/dep/package.json': '{"name":"dep","main":"index.js"}',
      'node_modules/dep/index.js': `export { default } from 'node:net';`,
    });
    await expect(bundleFunction({ projectDir })).rejects.toMatchObject({
      code: 'CFN_BUNDLE_FAILED',
      message: expect.stringMatching(/node_modules\/dep\/index\.js:1/),
    });
  });

  test('a folder that is no project', async () => {
    await expect(bundleFunction({ projectDir: root })).rejects.toMatchObject({ code: 'CFN_CONFIG_INVALID' });
  });

  test('a main that does not exist', async () => {
    const projectDir = await project('p', {});
    await expect(bundleFunction({ projectDir })).rejects.toMatchObject({
      code: 'CFN_CONFIG_INVALID',
      message: expect.stringContaining('src/index.ts does not exist'),
    });
  });

  test('a bundle over the limit', async () => {
    const projectDir = await project('p', {
      'src/index.ts': `import text from './big.txt';\nexport default { fetch: () => new Response(text) };\n`,
      'src/big.txt': 'x'.repeat(10 * 1024 * 1024 + 1),
    });
    await expect(bundleFunction({ projectDir })).rejects.toMatchObject({ code: 'CFN_BODY_TOO_LARGE' });
  });
});
