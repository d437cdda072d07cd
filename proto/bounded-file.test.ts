import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readBoundedFile } from './bounded-file.ts';
import { readPolicyFile } from './policy-file.ts';

test('reads what fits, and refuses one byte more, what never ends, and what is not there', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cfn-bounded-'));
  const file = join(folder, 'file');
  await writeFile(file, 'abcd');
  expect(await readBoundedFile(file, 4)).toEqual(new TextEncoder().encode('abcd'));
  for (const [path, max] of [
    [file, 3],
    ['/dev/zero', 100_000],
    [join(folder, 'none'), 10],
    [folder, 10],
  ] as const)
    await expect(readBoundedFile(path, max), path).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
  await rm(folder, { recursive: true });
});

test('a policy that never ends is no policy', async () => {
  await expect(readPolicyFile('/dev/zero')).rejects.toMatchObject({ code: 'CFN_POLICY_INVALID' });
});
