import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { redisUrl } from './url.ts';

const file = (text: string, mode = 0o600): string => {
  const path = join(mkdtempSync(join(tmpdir(), 'cfn-url-')), 'url');
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
};
const refused = { code: 'CFN_INPUT_INVALID', message: expect.not.stringContaining('hunter2') as string };

test('reads the URL from a file of its owner, or from the environment', async () => {
  expect(await redisUrl(file('rediss://u:hunter2@h:1/0\n'), 'redis://other')).toBe('rediss://u:hunter2@h:1/0');
  expect(await redisUrl(undefined, 'redis://h')).toBe('redis://h');
  expect(await redisUrl(undefined, undefined)).toBeUndefined();
});

test('refuses a file that others can read, and what is no URL of Redis', async () => {
  await expect(redisUrl(file('redis://u:hunter2@h', 0o644), undefined)).rejects.toMatchObject(refused);
  await expect(redisUrl('/nowhere', undefined)).rejects.toMatchObject(refused);
  await expect(redisUrl(undefined, 'http://u:hunter2@h')).rejects.toMatchObject(refused);
  await expect(redisUrl(file('hunter2'), undefined)).rejects.toMatchObject(refused);
});
