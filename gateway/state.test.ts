import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openState } from './state.ts';

const deps = { now: () => new Date(), randomBytes: (length: number) => new Uint8Array(randomBytes(length)) };
const folder = (): string => mkdtempSync(join(tmpdir(), 'cfn-state-'));

test('makes its files once, secrets with mode 0600', async () => {
  const dir = folder();
  const first = await openState(dir, deps);
  const second = await openState(dir, deps);
  expect(second.resultSigner.publicJwk).toEqual(first.resultSigner.publicJwk);
  expect(second.clientCertificate).toEqual(first.clientCertificate);
  for (const name of ['token.secret', 'operator.token', 'worker.token', 'results.jwk', 'client.key']) {
    expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
  }
  expect(await second.tokens.verify(readFileSync(join(dir, 'operator.token'), 'utf8'))).toMatchObject({
    role: 'operator',
  });
  expect(await first.tokens.verify(readFileSync(join(dir, 'worker.token'), 'utf8'))).toMatchObject({ role: 'worker' });
});

test('refuses to start when others may read a secret', async () => {
  const dir = folder();
  await openState(dir, deps);
  chmodSync(join(dir, 'token.secret'), 0o640);
  await expect(openState(dir, deps)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
});
