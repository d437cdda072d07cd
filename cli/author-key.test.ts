import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { signManifest, verifyManifest, type FunctionManifest } from '../proto/index.ts';
import { openAuthorKey } from './author-key.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'cfn-author-'));
});
afterEach(() => rm(home, { recursive: true }));

const manifest: FunctionManifest = {
  format: 'cfn/function/v1',
  tenant: 'acme',
  name: 'hello',
  compatibilityDate: '2026-11-01',
  code: { digest: '0'.repeat(64), bytes: 1 },
  models: [],
  vars: {},
  limits: { cpuMs: 1000, wallMs: 1000, memoryMb: 64 },
  egress: { allow: [] },
  caller: { plaintext: false, logs: 'none' },
};

test('is made once, for its owner alone, and signs what verifies', async () => {
  const first = await openAuthorKey({ env: { HOME: home } });
  const second = await openAuthorKey({ env: { HOME: home } });
  expect(first.file).toBe(join(home, '.config/cfn/author.jwk'));
  expect([first.made, second.made]).toEqual([true, false]);
  expect(second.publicJwk).toEqual(first.publicJwk);
  expect((await stat(first.file)).mode & 0o777).toBe(0o600);
  expect(Object.keys(first.publicJwk)).not.toContain('d');

  const { jws, author } = await signManifest(manifest, second.key, second.publicJwk);
  expect((await verifyManifest(jws)).author).toBe(author);
});

test('two at the same moment make one key', async () => {
  const keys = await Promise.all(Array.from({ length: 5 }, () => openAuthorKey({ env: { XDG_CONFIG_HOME: home } })));
  expect(new Set(keys.map(({ publicJwk }) => publicJwk.x)).size).toBe(1);
});

test('refuses a key that others can read, and what is no key, without quoting it', async () => {
  const file = join(home, 'key.jwk');
  const env = { CFN_AUTHOR_KEY: file };
  await openAuthorKey({ env });
  await chmod(file, 0o640);
  await expect(openAuthorKey({ env })).rejects.toMatchObject({
    code: 'CFN_SECRET_EXPOSED',
    message: expect.stringContaining('0640'),
  });

  await chmod(file, 0o600);
  const { d } = JSON.parse(await readFile(file, 'utf8')) as { d: string };
  await writeFile(file, `{"kty":"OKP","d":"${d}"`);
  const error = await openAuthorKey({ env }).catch((thrown: unknown) => thrown as Error);
  expect(error).toMatchObject({ code: 'CFN_INPUT_INVALID' });
  expect(JSON.stringify([(error as Error).message, String((error as Error).cause)])).not.toContain(d);
});
