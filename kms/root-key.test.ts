import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openRootKey } from './root-key.ts';
import { makeSecretFile } from './secret-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  path = join(folder, 'root.key');
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (keyringExists = false): ReturnType<typeof openRootKey> =>
  openRootKey(path, { keyringExists, randomBytes });
const code = (value: string): Error => expect.objectContaining({ code: value }) as Error;

describe('openRootKey', () => {
  test('makes 32 bytes with mode 0600 on first use, and reads them again', () => {
    const made = open();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path)).toHaveLength(32);
    expect(open(true).equals(made)).toBe(true);
  });

  test.each([0o644, 0o640, 0o604, 0o620, 0o700])('refuses mode 0%o', (mode) => {
    open();
    chmodSync(path, mode);
    expect(() => open(true)).toThrow(code('CFN_SECRET_EXPOSED'));
  });

  test('refuses a symbolic link', () => {
    writeFileSync(join(folder, 'elsewhere'), randomBytes(32), { mode: 0o600 });
    symlinkSync(join(folder, 'elsewhere'), path);
    expect(() => open()).toThrow(code('CFN_SECRET_EXPOSED'));
  });

  test.each([0, 31, 33])('refuses a file of %i bytes', (length) => {
    writeFileSync(path, randomBytes(length), { mode: 0o600 });
    expect(() => open()).toThrow(code('CFN_STORE_FAILED'));
  });

  test('makes no new key beside a keyring that an old one wrapped', () => {
    expect(() => open(true)).toThrow(code('CFN_STORE_FAILED'));
  });

  test('never overwrites: a file that appears meanwhile is an error', () => {
    writeFileSync(path, '');
    expect(() => makeSecretFile(path, randomBytes(32))).toThrow(code('CFN_STORE_FAILED'));
  });
});
