import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { processTree, searchMemory } from '../deploy/index.ts';
import { verifyStatement } from '../proto/index.ts';
import { problemCode, root, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.map(({ name }) => name)) }';
/** Some of the weights, as they are in the memory of whoever has loaded them. */
const WEIGHTS = readFileSync(VAD_MODEL).subarray(2_000_000, 2_000_064);

const folder = mkdtempSync(join(tmpdir(), 'cfn-lease-'));
const clock = join(folder, 'clock');
let system: TestSystem;
beforeAll(async () => {
  writeFileSync(clock, '0');
  const preload = pathToFileURL(join(root, 'test/fixtures/wall-clock.mjs')).href;
  system = await startTestSystem({ workerEnv: { NODE_OPTIONS: `--import=${preload}`, CFN_TEST_CLOCK: clock } });
});
afterAll(async () => {
  await system.stop();
  rmSync(folder, { recursive: true });
});

/** Processes that run an engine, or are the jail around one. */
function engineProcesses(): { pid: number; program: string }[] {
  return processTree(system.local.worker().pid).flatMap((pid) => {
    try {
      const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return args.some((arg) => arg.endsWith('runtime/engine/main.ts')) ? [{ pid, program }] : [];
    } catch {
      return [];
    }
  });
}
const engines = (): number[] =>
  engineProcesses()
    .filter(({ program }) => program.endsWith('/node'))
    .map(({ pid }) => pid);
const isGone = (pid: number): boolean => !engines().includes(pid);
async function until(what: () => boolean | Promise<boolean>, ms: number): Promise<void> {
  for (const end = Date.now() + ms; !(await what());) {
    if (Date.now() > end) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

interface Lease {
  readonly lease: string;
  readonly live: boolean;
  readonly model: string;
  readonly worker: string;
  readonly receiptKey: string;
  readonly droppedAt?: string;
  readonly statement?: string;
}
async function leasesOf(digest: string): Promise<Lease[]> {
  const { leases } = (await (await system.kms('GET', '/v1/leases')).json()) as { leases: Lease[] };
  return leases.filter(({ model }) => model === digest);
}
async function removeGrants(digest: string): Promise<void> {
  const { grants } = (await (await system.kms('GET', `/v1/models/${digest}/grants`)).json()) as {
    grants: { id: string }[];
  };
  for (const { id } of grants) expect((await system.kms('DELETE', `/v1/models/${digest}/grants/${id}`)).ok).toBe(true);
}

/** A function with a model of its own, called once. @returns the model's digest, and the engine that holds it */
async function serve(name: string, leaseMs: number): Promise<{ digest: string; engine: number }> {
  const digest = await system.push(`demo/${name}@1`, VAD_MODEL);
  await system.grant(digest, `demo/${name}`, leaseMs);
  await system.deploy(name, SOURCE, { models: [{ binding: 'VAD', model: `demo/${name}@1`, digest }] });
  expect((await system.call(name)).status).toBe(200);
  const [engine = -1] = engines();
  return { digest, engine };
}

describe('INV-06 the engine ends when its lease ends', () => {
  afterEach(() => until(() => engines().length === 0, 15_000)); // the one that is made ahead at the start serves the first test

  test('a short lease is renewed while the grant stands, and a revoked one ends the engine and the function', async () => {
    const { digest, engine } = await serve('leased', 2_000);
    await new Promise((resolve) => setTimeout(resolve, 4_000)); // two leases long
    expect(engines()).toEqual([engine]);
    expect((await system.call('leased')).status).toBe(200);
    await removeGrants(digest);
    await until(() => engineProcesses().length === 0, 5_000);
    const refused = await system.call('leased');
    expect(refused.status).toBe(403);
    expect(['CFN_GRANT_MISSING', 'CFN_LEASE_ENDED']).toContain(await problemCode(refused));
  });

  test('a revocation is pushed: the weights leave the memory, and a signed statement says so', async () => {
    const { digest, engine } = await serve('pushed', 600_000);
    const tree = (): number[] => processTree(system.local.worker().pid);
    expect(searchMemory([engine], { weights: WEIGHTS }).hits).not.toEqual([]);
    await removeGrants(digest);
    await until(() => isGone(engine), 5_000);
    expect(searchMemory(tree(), { weights: WEIGHTS }).hits).toEqual([]);
    await until(async () => (await leasesOf(digest)).every(({ droppedAt }) => droppedAt !== undefined), 5_000);
    const [lease] = await leasesOf(digest);
    if (lease?.statement === undefined) throw new Error('no statement');
    expect(lease.worker).toBe(system.local.worker().ready.workerId);
    const said = await verifyStatement('cfn-key-dropped+jwt', lease.statement, lease, new Date());
    expect(said).toMatchObject({ lease: lease.lease, reason: 'CFN_LEASE_ENDED', used: 1 });
  });

  test('one lease revoked: the function may ask again, in another engine', async () => {
    const { digest, engine } = await serve('again', 600_000);
    const [lease] = await leasesOf(digest);
    await system.kms('DELETE', `/v1/leases/${lease?.lease}`);
    await until(() => isGone(engine), 5_000);
    expect((await system.call('again')).status).toBe(200);
    await removeGrants(digest);
  });

  test('a model or a function version that is withdrawn while it runs ends, too, and is not served again', async () => {
    const { digest, engine } = await serve('withdrawn', 600_000);
    expect((await system.kms('DELETE', `/v1/models/${digest}`)).ok).toBe(true);
    await until(() => isGone(engine), 5_000);
    expect(await problemCode(await system.call('withdrawn'))).toBe('CFN_WITHDRAWN');
  });

  test('a wall clock set back by a day stretches no lease', async () => {
    const { digest, engine } = await serve('back', 3_000);
    const mark = system.logs.length;
    writeFileSync(clock, String(-86_400_000));
    try {
      system.local.kms.kill('SIGSTOP'); // nothing is renewed
      await until(() => isGone(engine), 15_000);
      // The worker did see yesterday.
      const yesterday = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
      await until(() => system.logs.slice(mark).some((line) => line.includes(`"at":"${yesterday}`)), 5_000);
    } finally {
      system.local.kms.kill('SIGCONT');
      writeFileSync(clock, '0');
    }
    await removeGrants(digest);
  });

  test('an agent that is stopped renews nothing, and its engine ends by itself', async () => {
    const { digest, engine } = await serve('stopped', 3_000);
    system.local.worker().kill('SIGSTOP');
    try {
      await until(() => isGone(engine), 15_000);
    } finally {
      system.local.worker().kill('SIGCONT');
    }
    await until(async () => (await leasesOf(digest)).every(({ droppedAt }) => droppedAt !== undefined), 10_000);
    await removeGrants(digest);
  });

  test('a whole worker that is stopped beyond its lease ends the engine when it goes on', async () => {
    const { digest, engine } = await serve('frozen', 2_000);
    const frozen = processTree(system.local.worker().pid);
    for (const pid of frozen) process.kill(pid, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    for (const pid of frozen) process.kill(pid, 'SIGCONT');
    await until(() => isGone(engine), 10_000);
    await removeGrants(digest);
  });

  test('with the KMS stopped, the engine lives to the end of its lease; the statement arrives when the KMS goes on', async () => {
    const { digest, engine } = await serve('silent', 4_000);
    system.local.kms.kill('SIGSTOP');
    try {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      expect(isGone(engine)).toBe(false);
      await until(() => isGone(engine), 15_000);
    } finally {
      system.local.kms.kill('SIGCONT');
    }
    await until(async () => (await leasesOf(digest)).every(({ droppedAt }) => droppedAt !== undefined), 30_000);
    await removeGrants(digest);
  });

  test('a worker that stops in good order says before it goes that its keys are gone', async () => {
    const { digest } = await serve('parting', 600_000);
    await system.local.worker().stop();
    expect(await leasesOf(digest)).toMatchObject([{ live: false, statement: expect.any(String) as string }]);
    await system.local.startWorker();
    await removeGrants((await serve('next', 600_000)).digest);
  });

  test('with the KMS dead, the engine lives to the end of its lease and no longer', async () => {
    const { engine } = await serve('orphan', 3_000);
    system.local.kms.kill('SIGKILL');
    await until(() => isGone(engine), 8_000);
    await expect
      .poll(async () => problemCode(await system.call('orphan')), { timeout: 10_000 })
      .toBe('CFN_KMS_UNREACHABLE');
  });
});
