import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { sqliteStore } from './index.ts';
import { storeContract } from '../contract/store.contract.ts';

describe('sqliteStore', () => {
  let path = '';
  beforeEach(() => {
    path = join(mkdtempSync(join(tmpdir(), 'cfn-store-')), 'gateway.sqlite');
  });
  storeContract(() => sqliteStore(path));

  test('refuses a file that is no database', () => {
    writeFileSync(path, 'x'.repeat(4096));
    expect(() => sqliteStore(path)).toThrowError(expect.objectContaining({ code: 'CFN_STORE_FAILED' }) as Error);
  });
});
