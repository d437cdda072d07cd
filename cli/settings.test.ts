import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { need, resolveSettings, tenantOf } from './settings.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'cfn-settings-'));
  await mkdir(join(root, '.cfn'));
  await mkdir(join(root, 'deep/er'), { recursive: true });
});
afterEach(() => rm(root, { recursive: true }));

const write = (content: object): Promise<void> =>
  writeFile(join(root, '.cfn/config.json'), JSON.stringify(content), { mode: 0o600 });

test('flags come before the environment, and that before the file of a folder above', async () => {
  await write({ gateway: 'http://file', token: 'file', kms: 'http://kms', policy: 'policy.json' });
  const settings = await resolveSettings(
    { gateway: 'http://flag' },
    { cwd: join(root, 'deep/er'), env: { CFN_GATEWAY: 'http://env', CFN_TOKEN: 'env' } },
  );
  expect(settings).toEqual({
    gateway: 'http://flag',
    token: 'env',
    kms: 'http://kms',
    policy: join(root, 'policy.json'),
  });
});

test('a policy of the environment starts at the current folder', async () => {
  const settings = await resolveSettings({}, { cwd: join(root, 'deep'), env: { CFN_POLICY: 'mine.json' } });
  expect(settings.policy).toBe(join(root, 'deep/mine.json'));
});

test('the tenant is given, or the one in the token', () => {
  const claims = Buffer.from(JSON.stringify({ tenant: 'acme' })).toString('base64url');
  expect(tenantOf({ token: `eyJhbGciOiJIUzI1NiJ9.${claims}.x` })).toBe('acme');
  expect(tenantOf({ token: `eyJhbGciOiJIUzI1NiJ9.${claims}.x`, tenant: 'other' })).toBe('other');
  expect(() => tenantOf({ token: 'opaque' })).toThrow(expect.objectContaining({ code: 'CFN_USAGE' }));
});

test('refuses what is missing, malformed, or could be written by others', async () => {
  const resolve = (): Promise<object> => resolveSettings({}, { cwd: root, env: {} });
  expect(() => need({}, 'kms')).toThrow(
    expect.objectContaining({ code: 'CFN_USAGE', message: expect.stringContaining('CFN_KMS') }),
  );

  await write({ gatway: 'http://x' });
  await expect(resolve()).rejects.toMatchObject({
    code: 'CFN_INPUT_INVALID',
    message: expect.stringContaining('gatway'),
  });
  await write({ gateway: 'not a url' });
  await expect(resolve()).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
  await writeFile(join(root, '.cfn/config.json'), '{');
  await expect(resolve()).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });

  await write({ gateway: 'http://x' });
  await chmod(join(root, '.cfn/config.json'), 0o666);
  await expect(resolve()).rejects.toMatchObject({
    code: 'CFN_INPUT_INVALID',
    message: expect.stringContaining('written by others'),
  });
});
