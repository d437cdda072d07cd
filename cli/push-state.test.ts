import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sha256Hex, utf8 } from '../proto/index.ts';
import { pushState, type PushState } from './push-state.ts';

let home: string;
beforeAll(async () => void (home = await mkdtemp(join(tmpdir(), 'cfn-push-'))));
afterAll(() => rm(home, { recursive: true }));

const open = (of: string, token = 'token-of-the-kms'): PushState =>
  pushState([of], token, { env: { HOME: home }, randomBytes: (length) => new Uint8Array(randomBytes(length)) });
const INVALID = { code: 'CFN_INPUT_INVALID' };
const manifestBytes = utf8('{"format":"cfn/model/v1"}');

test('keeps manifest and key for the same token, until it is removed', async () => {
  const dataKey = new Uint8Array(randomBytes(32));
  const sealed = { manifestBytes, digest: await sha256Hex(manifestBytes), dataKey };
  expect(await open('a').read()).toBeUndefined();
  await open('a').write(sealed);
  expect(await open('a').read()).toEqual(sealed);
  expect(await open('b').read()).toBeUndefined();
  await open('a').remove();
  expect(await open('a').read()).toBeUndefined();
});

test('the file alone gives the key away to nobody', async () => {
  const dataKey = new Uint8Array(randomBytes(32));
  const state = open('c');
  await state.write({ manifestBytes, digest: await sha256Hex(manifestBytes), dataKey });
  expect((await stat(state.file)).mode & 0o777).toBe(0o600);
  expect((await stat(dirname(state.file))).mode & 0o777).toBe(0o700);
  const text = await readFile(state.file, 'utf8');
  for (const encoding of ['base64url', 'base64', 'hex'] as const)
    expect(text).not.toContain(Buffer.from(dataKey).toString(encoding).slice(0, 40));
  await expect(open('c', 'another token').read()).rejects.toMatchObject(INVALID);
});

test('a changed file is refused', async () => {
  const state = open('d');
  await state.write({ manifestBytes, digest: await sha256Hex(manifestBytes), dataKey: new Uint8Array(32) });
  const kept = JSON.parse(await readFile(state.file, 'utf8')) as Record<string, string>;
  for (const change of [
    { digest: '0'.repeat(64) },
    { key: `A${kept['key']?.slice(1)}` },
    { format: 'cfn/push/v2' },
    { more: 'x' },
  ]) {
    if (JSON.stringify({ ...kept, ...change }) === JSON.stringify(kept)) continue;
    await writeFile(state.file, JSON.stringify({ ...kept, ...change }));
    await expect(state.read()).rejects.toMatchObject(INVALID);
  }
  await writeFile(state.file, '{');
  await expect(state.read()).rejects.toMatchObject(INVALID);
});
