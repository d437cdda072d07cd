import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openFileRootKey } from './root-key-file.ts';
import { rootKeyContract } from './root-key.contract.ts';
import { makeSecretFile } from './secret-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  path = join(folder, 'root.key');
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (mayMake = true): ReturnType<typeof openFileRootKey> => openFileRootKey(path, { mayMake, randomBytes });
const code = (value: string): Error => expect.objectContaining({ code: value }) as Error;

describe('a root key in a file', () => {
  rootKeyContract(async () => {
    const place = mkdtempSync(join(tmpdir(), 'cfn-kms-root-'));
    return {
      open: async (mayMake) => openFileRootKey(join(place, 'root.key'), { mayMake, randomBytes }),
      openOther: async () => openFileRootKey(join(place, 'other.key'), { mayMake: true, randomBytes }),
      close: async () => rmSync(place, { recursive: true }),
    };
  });

  test('is made of 32 bytes with mode 0600 on first use, and grows by 32 with each version', async () => {
    const root = open();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const first = readFileSync(path);
    expect(first).toHaveLength(32);
    await root.rotate();
    expect(readFileSync(path).subarray(0, 32)).toEqual(first);
    expect(readFileSync(path)).toHaveLength(64);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test.each([0o644, 0o640, 0o604, 0o620, 0o700])('refuses mode 0%o', (mode) => {
    open();
    chmodSync(path, mode);
    expect(() => open(false)).toThrow(code('CFN_SECRET_EXPOSED'));
  });

  test('refuses a symbolic link', () => {
    writeFileSync(join(folder, 'elsewhere'), randomBytes(32), { mode: 0o600 });
    symlinkSync(join(folder, 'elsewhere'), path);
    expect(() => open()).toThrow(code('CFN_SECRET_EXPOSED'));
  });

  test.each([0, 31, 33, 32 * 241])('refuses a file of %i bytes', (length) => {
    writeFileSync(path, randomBytes(length), { mode: 0o600 });
    expect(() => open()).toThrow(code('CFN_STORE_FAILED'));
  });

  test('makes no new key beside a keyring that an old one wrapped', () => {
    expect(() => open(false)).toThrow(code('CFN_STORE_FAILED'));
  });

  test('never overwrites: a file that appears meanwhile is an error', () => {
    writeFileSync(path, '');
    expect(() => makeSecretFile(path, randomBytes(32))).toThrow(code('CFN_STORE_FAILED'));
  });

  test('does not rotate a file that was replaced, which would lose a key; what a killed attempt left is no obstacle', async () => {
    const root = open();
    writeFileSync(`${path}.new`, 'half-written');
    expect(await root.rotate()).toBe(2);
    rmSync(path);
    makeSecretFile(path, randomBytes(32));
    await expect(root.rotate()).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
});
