import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeResultFile } from './result-file.ts';

test('writes the file; where it cannot, it says which and why', async () => {
  const cwd = await mkdtemp(join(tmpdir(), 'cfn-result-file-'));
  await writeResultFile({ cwd, file: 'receipt.jws' }, 'a.b.c');
  expect(await readFile(join(cwd, 'receipt.jws'), 'utf8')).toBe('a.b.c');
  await expect(writeResultFile({ cwd, file: 'none/receipt.jws' }, 'a.b.c')).rejects.toMatchObject({
    code: 'CFN_USAGE',
    message: 'cannot write none/receipt.jws: ENOENT',
  });
  await rm(cwd, { recursive: true });
});
