import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createOutput } from './output.ts';
import { secretPlace } from './function-secrets.ts';
import { recordingContext } from './testkit.ts';

test.each([
  ['https://kms.example', 'CFN_USAGE'],
  ['https://kms.acme.example/', undefined],
])("a project that names the KMS %s does not get the owner's token there", async (named, code) => {
  const cwd = await mkdtemp(join(tmpdir(), 'cfn-secret-'));
  try {
    await writeFile(
      join(cwd, 'wrangler-style.toml'),
      `name = "f"\nmain = "index.ts"\ncompatibility_date = "2026-11-01"\n[secrets]\nrequired = ["A"]\nkms = "${named}"\nowner = "acme"\n`,
    );
    const { context } = recordingContext({ cwd });
    const settings = { kms: 'https://kms.acme.example', kmsToken: 'acme.secret', tenant: 'acme' };
    const place = secretPlace({ project: '.' }, settings, {
      context,
      output: createOutput(context, { json: false }),
      exitCode: 0,
    });
    if (code === undefined) expect(await place).toMatchObject({ owner: 'acme', name: 'f' });
    else await expect(place).rejects.toMatchObject({ code });
  } finally {
    await rm(cwd, { recursive: true });
  }
});
