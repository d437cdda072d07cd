import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCfn, type Ended } from '../cli/testkit.ts';
import { dataKeyInfo, sealTo } from '../proto/index.ts';
import { startKmsProcess, type KmsProcess } from '../kms/kms-process.testkit.ts';
import { softhsmMissing, softhsmSkip, startSoftHsm } from '../kms/softhsm.testkit.ts';
import { startKms } from '../kms/test-kms.ts';
import { startTransit } from '../kms/transit.testkit.ts';

/** A KMS that stands alone, and the people who use it, each with `cfn`. */

const digest = 'd'.repeat(64);
let folder: string;
let kms: KmsProcess;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-session-'));
  writeFileSync(join(folder, 'policy.json'), JSON.stringify((await startKms()).policy));
});
afterEach(() => {
  kms?.child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

async function start(flags: readonly string[] = [], env: Record<string, string> = {}): Promise<string> {
  kms = await startKmsProcess(
    ['--state', join(folder, 'state'), '--policy', join(folder, 'policy.json'), ...flags],
    env,
  );
  return readFileSync(join(folder, 'state', 'admin.token'), 'utf8');
}
const cfn = (token: string, ...args: string[]): Promise<Ended> =>
  runCfn(args, { cwd: folder, env: { CFN_KMS: kms.url, CFN_KMS_TOKEN: token } });
async function said(token: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cfn(token, ...args);
  expect({ code, stderr }, args.join(' ')).toEqual({ code: 0, stderr: '' });
  return stdout;
}
async function refused(token: string, ...args: string[]): Promise<string | undefined> {
  const { code, stderr } = await cfn(token, ...args);
  expect(code).not.toBe(0);
  return /CFN_[A-Z_]+/.exec(stderr)?.[0];
}
async function storeModel(token: string, owner: string): Promise<void> {
  const sealedKey = await sealTo(kms.publicKey, new Uint8Array(32).fill(7), dataKeyInfo(digest, `${owner}/m@1`));
  const headers = { authorization: `Bearer ${token}` };
  const body = JSON.stringify({ model: `${owner}/m@1`, sealedKey });
  expect((await fetch(`${kms.url}/v1/models/${digest}`, { method: 'PUT', headers, body })).status).toBe(201);
}

test('owners, tokens, keys, grants and the audit log, at the command line', async () => {
  const admin = await start();
  const acme = (await said(admin, 'kms', 'owner', 'add', 'acme')).trim();
  const other = (await said(admin, 'kms', 'owner', 'add', 'other')).trim();
  expect(await said(admin, 'kms', 'owner', 'list')).toMatch(/^acme since .*\nother since /);
  expect(await refused(acme, 'kms', 'owner', 'list')).toBe('CFN_TOKEN_SCOPE');
  const quotas = ['--models', '1', '--grants', '2', '--leases', '3', '--releases-per-minute', '4'];
  await said(admin, 'kms', 'owner', 'quotas', 'acme', ...quotas);
  await storeModel(acme, 'acme');

  expect(await said(acme, 'model', 'list')).toBe(`acme/m@1 ${digest}\n`);
  expect(await said(other, 'model', 'list')).toBe('');
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const grant = { tenant: 't', function: 'f', tee: ['tdx'], gpu: ['HOPPER'], leaseMs: 1000, until };
  const headers = { authorization: `Bearer ${acme}` };
  const init = { method: 'PUT', headers, body: JSON.stringify(grant) };
  const { id } = (await (await fetch(`${kms.url}/v1/models/${digest}/grants`, init)).json()) as { id: string };
  expect(await said(acme, 'model', 'show', 'acme/m@1')).toContain(`grant ${id} to t/f, on tdx, with HOPPER, until`);
  expect(await refused(other, 'model', 'show', 'acme/m@1')).toBe('CFN_MODEL_NOT_FOUND');
  expect(await refused(acme, 'model', 'revoke', 'acme/m@1')).toBe('CFN_USAGE');
  expect(await said(acme, 'model', 'revoke', 'acme/m@1', '--grant', id)).toContain('0 leases ended');

  expect(await said(acme, 'keys', 'rotate')).toContain('version 2 wraps 1 data key;');
  expect(await said(acme, 'keys', 'list')).toMatch(/^version 1 .* retired .*\nversion 2 .* wraps 1 data key\n$/);
  expect(await said(admin, 'keys', 'rotate')).toBe('root key: version 2 wraps 4 keys\n');
  expect(await said(admin, 'keys', 'list')).toContain('root key in a file, version 2');

  const auditor = (await said(acme, 'kms', 'token', 'add', '--auditor')).trim();
  expect(await refused(auditor, 'keys', 'rotate')).toBe('CFN_TOKEN_SCOPE');
  expect(await said(acme, 'kms', 'token', 'list')).toContain(' auditor ');
  await said(acme, 'kms', 'policy', 'set', 'policy.json');
  expect(JSON.parse(await said(auditor, 'kms', 'policy', 'show'))).toMatchObject({ format: 'cfn/appraisal-policy/v2' });
  await said(acme, 'kms', 'policy', 'clear');

  const verified = await said(auditor, 'kms', 'audit', 'verify');
  expect(verified).toMatch(/^whole: \d+ entries of acme\n/);
  writeFileSync(join(folder, 'kept'), verified.trim().split('\n').at(-1) ?? '');
  const auditKey = /audit key (\S+),/.exec(verified)?.[1] ?? '';
  await said(auditor, 'kms', 'audit', 'export', '--out', 'log.jsonl');
  const flags = ['--audit-key', auditKey, '--since', 'kept'];
  expect(await said(auditor, 'kms', 'audit', 'verify', 'log.jsonl', ...flags)).toContain('whole: ');
  const log = readFileSync(join(folder, 'log.jsonl'), 'utf8');
  writeFileSync(join(folder, 'log.jsonl'), log.replace('"granted"', '"revoked"'));
  expect(await refused(auditor, 'kms', 'audit', 'verify', 'log.jsonl', ...flags)).toBe('CFN_AUDIT_ALTERED');
  expect(await said(admin, 'kms', 'audit', 'verify')).toContain('entries of the KMS itself');

  expect(await refused(acme, 'model', 'withdraw', 'acme/m@1')).toBe('CFN_USAGE');
  await said(acme, 'model', 'withdraw', 'acme/m@1', '--for-good');
  expect(await said(acme, 'model', 'list')).toContain('withdrawn');
  const logged = kms.errors();
  for (const secret of [admin, acme, other, auditor]) expect(logged).not.toContain(secret);
}, 120_000);

describe.skipIf(softhsmMissing)(`with its root key in an HSM${softhsmSkip}`, () => {
  test('serves, fails closed while the HSM is gone, and goes on without a restart', async () => {
    using hsm = await startSoftHsm();
    writeFileSync(join(folder, 'pin'), `${hsm.pin}\n`, { mode: 0o600 });
    const flags = ['--root-key', hsm.uri('cfn-root'), '--root-key-credential', join(folder, 'pin')];
    const admin = await start(flags, hsm.env);
    const acme = (await said(admin, 'kms', 'owner', 'add', 'acme')).trim();
    await storeModel(acme, 'acme');
    hsm.remove();
    expect(await refused(acme, 'keys', 'rotate')).toBe('CFN_ROOT_KEY_UNREACHABLE');
    expect(await refused(admin, 'kms', 'owner', 'add', 'late')).toBe('CFN_ROOT_KEY_UNREACHABLE');
    hsm.putBack();
    expect(await said(acme, 'keys', 'rotate')).toContain('version 2 wraps 1 data key;');
    expect(await said(admin, 'keys', 'rotate')).toContain('version 2 wraps 3 keys');
    kms.child.kill('SIGKILL');
    await start(flags, hsm.env);
    expect(await said(admin, 'keys', 'list')).toContain('root key in an HSM, version 2');
    expect(await said(acme, 'keys', 'rotate')).toContain('version 3 wraps 1 data key;');
    expect(kms.errors()).not.toContain(hsm.pin);
  }, 120_000);
});

test('with its root key in a transit service: the same', async () => {
  const transit = await startTransit();
  try {
    const flags = ['--root-key', `transit:${transit.url('cfn-root')}`];
    const env = { CFN_ROOT_KEY_CREDENTIAL: transit.token };
    const admin = await start(flags, env);
    const acme = (await said(admin, 'kms', 'owner', 'add', 'acme')).trim();
    await storeModel(acme, 'acme');
    await transit.stop();
    expect(await refused(acme, 'keys', 'rotate')).toBe('CFN_ROOT_KEY_UNREACHABLE');
    await transit.start();
    expect(await said(acme, 'keys', 'rotate')).toContain('version 2 wraps 1 data key;');
    expect(await said(admin, 'keys', 'rotate')).toContain('version 2 wraps 3 keys');
    expect(kms.errors()).not.toContain(transit.token);
  } finally {
    await transit.stop();
  }
}, 120_000);
