import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn, type Ended } from '../cli/testkit.ts';
import { processTree, searchMemory } from '../deploy/index.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

// Real processes and real `cfn` commands. Each value is random, so that finding it anywhere means that it came there.

let system: TestSystem;
let project: string;
const FOUND_MS = { timeout: 30_000, interval: 250 };

beforeAll(async () => {
  system = await startTestSystem();
  project = mkdtempSync(join(tmpdir(), 'cfn-secrets-test-'));
  mkdirSync(join(project, 'src'));
  mkdirSync(join(project, '.cfn'), { mode: 0o700 });
  writeFileSync(join(project, '.cfn/config.json'), JSON.stringify(system.local.config), { mode: 0o600 });
  configure('keeper');
  // It says of its secret only what nobody can undo.
  writeFileSync(
    join(project, 'src/index.ts'),
    `const hex = (bytes: ArrayBuffer) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
     export default {
       async fetch(_request: Request, env: { API_KEY: string }) {
         return new Response(hex(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(env.API_KEY))));
       },
     };`,
  );
});
afterAll(async () => {
  await system.stop();
  rmSync(project, { recursive: true, force: true });
});

function configure(name: string): void {
  writeFileSync(
    join(project, 'wrangler-style.toml'),
    `name = "${name}"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n[secrets]\nrequired = ["API_KEY"]\n[caller]\nplaintext = true\n`,
  );
}
const cfn = (args: string[], input?: string): Promise<Ended> =>
  runCfn(args, { cwd: project, ...(input === undefined ? {} : { input }) });
async function done(run: Promise<Ended>): Promise<string> {
  const { code, stdout, stderr } = await run;
  expect(stderr, 'cfn').not.toContain('CFN_');
  expect(code).toBe(0);
  return stdout;
}
const newValue = (): string => `marker-${randomBytes(24).toString('hex')}`;
const digestOf = (value: string): string => createHash('sha256').update(value).digest('hex');
const answer = async (name: string): Promise<string> => (await system.call(name)).text();
const codeOf = async (name: string): Promise<string> => {
  const response = await system.call(name);
  return response.ok ? 'ok' : problemCode(response);
};

/** Which processes of the system hold a text in their memory, in either of V8's forms. */
function holdersOf(value: string): Set<string> {
  const { local } = system;
  const pids = [local.worker(), local.gateway, local.kms].flatMap(({ pid }) => processTree(pid));
  const patterns = { utf8: Buffer.from(value), utf16: Buffer.from(value, 'utf16le') };
  return new Set(searchMemory(pids, patterns).hits.map(({ pid }) => kindOf(pid)));
}
function kindOf(pid: number): string {
  const names = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  if (names.includes('sandbox/loader.cjs')) return 'sandbox';
  return /(engine\/main|kms\/main|gateway\/main|simulated-worker)\.ts/.exec(names)?.[1] ?? names;
}
/** Whether any file or log of the system has the value, plain or encoded. */
function isWrittenDown(value: string): boolean {
  const files = readdirSync(system.stateDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)));
  const everything = Buffer.concat([...files, Buffer.from(system.logs.join('\n'))]);
  return (['utf8', 'hex', 'base64', 'base64url'] as const).some((form) =>
    everything.includes(Buffer.from(value).toString(form).replace(/=+$/, '')),
  );
}

describe('INV-27 a secret put with cfn', () => {
  const [first, second] = [newValue(), newValue()];

  test('is needed before the function that requires it starts', async () => {
    const refused = await cfn(['deploy']);
    expect(refused).toMatchObject({ code: 4 });
    expect(refused.stderr).toContain('CFN_SECRET_MISSING');
  });

  test('is in env of the function, and of the worker in its sandbox alone', async () => {
    expect(await done(cfn(['secret', 'put', 'API_KEY'], `${first}\n`))).toBe('put API_KEY of demo/keeper\n');
    await done(cfn(['deploy']));
    expect(await answer('keeper')).toBe(digestOf(first));
    const holders = holdersOf(first);
    holders.delete('kms/main'); // it opens values to wrap them for the sandbox
    expect([...holders]).toEqual(['sandbox']);
    expect(isWrittenDown(first)).toBe(false);
    const listed = await done(cfn(['secret', 'list']));
    expect(listed).toMatch(/^API_KEY since \S+ for author \S+\n$/);
  }, 60_000);

  test('is replaced in running functions, and the old one is gone from the worker', async () => {
    const put = await done(cfn(['secret', 'bulk', '-'], JSON.stringify({ API_KEY: second })));
    expect(put).toContain('1 workers had the secrets as they were');
    await expect.poll(() => answer('keeper'), FOUND_MS).toBe(digestOf(second));
    await expect.poll(() => holdersOf(first).has('sandbox'), FOUND_MS).toBe(false);
  }, 90_000);

  test('is gone from the worker when it was deleted, and not released again', async () => {
    await done(cfn(['secret', 'delete', 'API_KEY']));
    await expect.poll(() => codeOf('keeper'), FOUND_MS).toBe('CFN_SECRET_MISSING');
    const holders = holdersOf(second);
    holders.delete('kms/main');
    expect([...holders]).toEqual([]);
    expect(isWrittenDown(second)).toBe(false);
    const audit = await done(cfn(['kms', 'audit', 'export', '--out', join(project, 'audit.jsonl')]));
    expect(audit).not.toContain(second);
    const log = readFileSync(join(project, 'audit.jsonl'), 'utf8');
    for (const decision of ['secrets-put', 'secret-deleted', 'released', 'refused', 'dropped'])
      expect(log).toContain(`"decision":"${decision}"`);
  }, 90_000);

  test('is gone from the worker at the end of its lease, with the KMS dead', async () => {
    configure('orphan');
    const value = newValue();
    await done(cfn(['secret', 'put', 'API_KEY', '--lease', '5s'], value));
    await done(cfn(['deploy']));
    expect(await answer('orphan')).toBe(digestOf(value));
    system.local.kms.kill('SIGKILL');
    await expect
      .poll(() => {
        const { pid } = system.local.worker();
        return searchMemory(processTree(pid), { value: Buffer.from(value) }).hits.length;
      }, FOUND_MS)
      .toBe(0);
    expect(await codeOf('orphan')).toBe('CFN_KMS_UNREACHABLE');
  }, 90_000);
});
