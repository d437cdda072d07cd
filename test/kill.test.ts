import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { processTree, startLocal } from '../deploy/index.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

const SLOW =
  'export default { async fetch() { await new Promise((done) => setTimeout(done, 3_000)); return new Response("late"); } }';
const QUICK = 'export default { fetch: () => new Response("quick") }';

let system: TestSystem;
beforeEach(async () => {
  system = await startTestSystem();
  await system.deploy('slow', SLOW);
  await system.deploy('quick', QUICK);
});
afterEach(() => system.stop());
const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 500));

describe('killed in the middle of a request', () => {
  test('the worker: the caller is told to retry, and another worker takes the next request', async () => {
    const running = system.call('slow');
    await soon();
    system.local.worker().kill('SIGKILL'); // its children end with it
    const answer = await running;
    expect([answer.status, await problemCode(answer)]).toEqual([502, 'CFN_WORKER_LOST']);
    const without = await system.call('quick');
    expect(['CFN_WORKER_UNAVAILABLE', 'CFN_WORKER_LOST']).toContain(await problemCode(without));
    await system.local.startWorker();
    expect(await (await system.call('quick')).text()).toBe('quick');
  });

  test('a sandbox: its caller gets a retryable code, its neighbour is not disturbed, and it is started anew', async () => {
    const before = new Set(processTree(system.local.worker().pid));
    await system.deploy('victim', SLOW);
    const [victim] = processTree(system.local.worker().pid).filter((pid) => !before.has(pid));
    const running = system.call('victim');
    await soon();
    process.kill(victim ?? 0, 'SIGKILL');
    const answer = await running;
    expect([answer.status, await problemCode(answer)]).toEqual([503, 'CFN_SANDBOX_LOST']);
    expect(await (await system.call('quick')).text()).toBe('quick');
    expect(await (await system.call('victim')).text()).toBe('late');
  });

  test('INV-14 gateway and KMS: nothing acknowledged is lost', async () => {
    const running = system.call('slow').then(
      () => 'answered',
      () => 'connection lost',
    );
    await soon();
    system.local.gateway.kill('SIGKILL');
    system.local.kms.kill('SIGKILL');
    expect(await running).toBe('connection lost');
    await system.local.stop();
    const again = await startLocal({ stateDir: system.stateDir });
    try {
      const answer = await fetch(`${again.gatewayUrl}/f/demo/quick/`);
      expect([answer.status, await answer.text()]).toEqual([200, 'quick']);
    } finally {
      await again.stop();
    }
  });
});
