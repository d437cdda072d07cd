import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn, type Ended } from '../cli/testkit.ts';
import { processTree } from '../deploy/index.ts';
import { startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

/** Scaling from zero and out, with real workers that let go of what nobody calls for two seconds. */

let system: TestSystem;
let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-scale-'));
  system = await startTestSystem({ workerArgs: ['--idle=2s', '--capacity=4'] });
});
afterAll(async () => {
  await system?.stop();
  await rm(cwd, { recursive: true });
});

const POLL = { timeout: 20_000, interval: 100 };

/** Of the worker, its engines and its sandboxes. */
const processes = (): number => processTree(system.local.worker().pid).length;

interface Worker {
  readonly workerId: string;
  readonly address: string;
  readonly functions: number;
  readonly models: number;
  readonly memory: { budget: number; free: number };
  readonly placements?: { function: string; state: string; why: string }[];
}
async function workers(query = ''): Promise<Worker[]> {
  const reply = await system.control('GET', `/v1/workers${query}`, undefined, system.local.operatorToken);
  return ((await reply.json()) as { workers: Worker[] }).workers;
}
const loadsOf = (model: string): number =>
  system.logs.filter((line) => line.includes('"model.loaded"') && line.includes(model)).length;

describe('from zero', () => {
  const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.map(({ name }) => name)) }';
  let digest: string;

  test('what nobody calls leaves the worker, and gives its lease back; the next requests load it once', async () => {
    digest = await system.push('demo/vad@1', VAD_MODEL);
    await system.grant(digest, 'demo/vad');
    await system.deploy('vad', SOURCE, { models: [{ binding: 'VAD', model: 'demo/vad@1', digest }] });
    expect(await (await system.call('vad')).json()).toEqual(['output', 'stateN']);
    await expect.poll(async () => (await workers())[0], POLL).toMatchObject({ functions: 1, models: 1 });
    const [held] = await workers();
    const running = processes();

    await expect.poll(async () => (await workers())[0], POLL).toMatchObject({ functions: 0, models: 0 });
    const [idle] = await workers();
    expect(idle?.memory.free).toBe(idle?.memory.budget);
    expect(processes()).toBeLessThan(running);
    expect(held?.memory.free).toBeLessThan(held?.memory.budget ?? 0);
    await expect
      .poll(async () => {
        const { leases } = (await (await system.kms('GET', '/v1/leases')).json()) as {
          leases: { live: boolean; droppedAt?: string; statement?: string }[];
        };
        return leases.map(({ live, droppedAt, statement }) => [live, droppedAt !== undefined, statement !== undefined]);
      }, POLL)
      .toEqual([[false, true, true]]); // said by the worker, and signed

    const before = loadsOf('demo/vad@1');
    const answers = await Promise.all(Array.from({ length: 4 }, () => system.call('vad')));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(loadsOf('demo/vad@1')).toBe(before + 1);
    await Promise.all(answers.map((answer) => answer.text()));
  });

  test('one that runs longer than that is not let go of', async () => {
    const source = `export default { async fetch() { await new Promise((done) => setTimeout(done, 3_500)); return new Response('done') } }`;
    await system.deploy('long', source);
    const answer = await system.call('long');
    expect(await answer.text()).toBe('done');
  });
});

test('when those that have it are busy a second worker loads it, and the list says why', async () => {
  const source = `export default { async fetch() { await new Promise((done) => setTimeout(done, 700)); return new Response('done') } }`;
  await system.local.startWorker();
  await system.deploy('slow', source);
  await expect.poll(async () => (await workers()).map(({ functions }) => functions), POLL).toEqual([0, 0]); // idle again
  await (await system.call('slow')).text();
  const placements = async (): Promise<Record<string, string>> =>
    Object.fromEntries(
      (await workers('?why=demo/slow')).map(({ workerId, placements: [it] = [] }) => [
        workerId,
        `${it?.state}: ${it?.why}`,
      ]),
    );
  expect(Object.values(await placements()).toSorted()).toEqual([
    expect.stringMatching(/^absent: not needed: 1 worker has it, and not all are busy; has room: needs 160 MiB/),
    'ready: loaded for a request while no worker had it',
  ]);
  const calls = Array.from({ length: 12 }, () => system.call('slow'));
  const answers = await Promise.all(calls);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200])); // 4 at once on each: the others waited
  await Promise.all(answers.map((answer) => answer.text()));
  expect(Object.values(await placements()).toSorted()).toEqual([
    'ready: loaded for a request while no worker had it',
    'ready: loaded when those that had it were at 50 % of their capacity',
  ]);
});

describe('cfn', () => {
  const cfn = async (...args: string[]): Promise<Ended> => {
    const { gateway, token } = system.local.config;
    const operator = args[0] === 'workers';
    const env = { CFN_GATEWAY: gateway, CFN_TOKEN: operator ? system.local.operatorToken : token, CFN_TENANT: 'demo' };
    const ended = await runCfn(args, { cwd, env });
    expect(ended.stderr).not.toContain('CFN_INTERNAL');
    return ended;
  };
  const out = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await cfn(...args);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    return stdout;
  };

  test('versions are uploaded, split, listed, viewed and rolled back', async () => {
    const source = (text: string): string => `export default { fetch: () => new Response('${text}') }`;
    const one = await system.deploy('greet', source('one'));
    const two = await system.deploy('greet', source('two'));
    const texts = async (): Promise<string[]> => {
      const answers = await Promise.all(Array.from({ length: 8 }, () => system.call('greet')));
      return [...new Set(await Promise.all(answers.map((answer) => answer.text())))].toSorted();
    };
    expect(await texts()).toEqual(['two']);
    const name = ['--name', 'greet'];
    expect(await out('versions', 'deploy', `${one.slice(0, 8)}@50`, `${two.slice(0, 8)}@50`, ...name)).toContain(
      ` 50 % ${one}`,
    );
    await expect.poll(texts, POLL).toEqual(['one', 'two']);
    expect(await out('versions', 'list', ...name)).toMatch(
      new RegExp(`^ 50 %  ${two} .*\\n 50 %  ${one} .*\\ndeployment 3 \\(versions\\)`),
    );
    expect(await out('rollback', ...name, '--message', 'worse')).toContain(`100 % ${two}`); // alone before the split
    expect(await texts()).toEqual(['two']);
    expect(await out('versions', 'list', ...name)).toMatch(/deployment 4 \(rollback\) of .*: worse/);
    expect(await out('rollback', one.slice(0, 8), ...name)).toContain(`100 % ${one}`);
    expect(await texts()).toEqual(['one']);
    expect(await out('versions', 'view', two.slice(0, 8), ...name)).toMatch(/^demo\/greet .*\nnot deployed\n/);
    expect(await cfn('versions', 'deploy', `${one.slice(0, 8)}@50`, ...name)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('the percentages make 50, expected 100'),
    });
    expect(await cfn('versions', 'list')).toMatchObject({ code: 2, stderr: expect.stringContaining('--name') });
  });

  test('upload keeps a version that gets no requests', async () => {
    expect((await cfn('init', 'greeter')).code).toBe(0);
    expect(await out('deploy', 'greeter')).toMatch(/deployed demo\/greeter/);
    expect(await out('versions', 'upload', 'greeter')).toMatch(/^uploaded demo\/greeter\nversion {2}[0-9a-f]{64}\n/);
  });

  test('workers are listed with reasons, cordoned, and drained', async () => {
    const [{ workerId, address } = { workerId: '', address: '' }] = await workers();
    expect(await out('workers', 'list')).toMatch(
      /127\.0\.0\.1:\d+ simulated serving {2}\d of 4 requests {2}\d+ functions/,
    );
    await (await system.call('greet')).text();
    expect(await out('workers', 'list', '--why', 'demo/greet')).toMatch(
      /\n {2}ready demo\/greet [0-9a-f]{12}: loaded for a request while no worker had it/,
    );
    expect(await out('workers', 'cordon', workerId.slice(0, 8))).toContain('cordoned');
    expect(await out('workers', 'list')).toContain('simulated cordoned');
    expect(await out('workers', 'uncordon', workerId.slice(0, 8))).toContain('uncordoned');
    expect(await out('workers', 'drain', workerId.slice(0, 8))).toContain('drained');
    expect((await workers()).map((it) => it.workerId)).not.toContain(workerId);
    expect(await (await system.call('greet')).text()).toBe('one');
    expect(await cfn('workers', 'drain', 'ffffff')).toMatchObject({ code: 2 });
    expect(await out('workers', 'add', address)).toContain(`admitted ${workerId} at ${address}, simulated`);
    expect((await workers()).map((it) => it.workerId)).toContain(workerId);
    expect(await out('workers', 'remove', address)).toContain('removed');
    expect((await workers()).map((it) => it.workerId)).not.toContain(workerId);
    expect(await cfn('workers', 'remove', address)).toMatchObject({ code: 2 });
    expect(await cfn('workers', 'add', 'nobody')).toMatchObject({ code: 2 });
  });
});

test('metrics say what an autoscaler needs', async () => {
  const text = await (await fetch(`${system.local.adminUrl}/metrics`)).text();
  expect(text).toMatch(/^cfn_queue_depth 0$/m);
  expect(text).toMatch(/^cfn_workers_inflight \d+$/m);
  expect(text).toMatch(/^cfn_workers_capacity 4$/m);
  expect(text).toMatch(/^cfn_loads_total\{outcome="ok"\} \d+$/m);
});
