import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { processTree } from '../deploy/index.ts';
import { problemCode, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.map(({ name }) => name)) }';

let system: TestSystem;
beforeAll(async () => void (system = await startTestSystem()));
afterAll(() => system.stop());

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
async function until(what: () => boolean, ms: number): Promise<void> {
  for (const end = Date.now() + ms; !what();) {
    if (Date.now() > end) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe('INV-06 the engine ends when its lease ends', () => {
  test('a short lease is renewed while the grant stands, and a revoked one ends the engine and the function', async () => {
    const digest = await system.push('demo/leased@1', VAD_MODEL);
    await system.grant(digest, 'demo/leased', 2_000);
    await system.deploy('leased', SOURCE, { models: [{ binding: 'VAD', model: 'demo/leased@1', digest }] });
    expect((await system.call('leased')).status).toBe(200);
    const [engine] = engines();
    await new Promise((resolve) => setTimeout(resolve, 4_000)); // two leases long
    expect(engines()).toEqual([engine]);
    expect((await system.call('leased')).status).toBe(200);

    const { grants } = (await (await system.kms('GET', `/v1/models/${digest}/grants`)).json()) as {
      grants: { id: string }[];
    };
    for (const { id } of grants)
      expect((await system.kms('DELETE', `/v1/models/${digest}/grants/${id}`)).ok).toBe(true);
    await until(() => engineProcesses().length === 0, 5_000);
    const refused = await system.call('leased');
    expect(refused.status).toBe(403);
    expect(['CFN_GRANT_MISSING', 'CFN_LEASE_ENDED']).toContain(await problemCode(refused));
  });

  test('with the KMS dead, the engine lives to the end of its lease and no longer', async () => {
    const digest = await system.push('demo/orphan@1', VAD_MODEL);
    await system.grant(digest, 'demo/orphan', 3_000);
    await system.deploy('orphan', SOURCE, { models: [{ binding: 'VAD', model: 'demo/orphan@1', digest }] });
    expect((await system.call('orphan')).status).toBe(200);
    expect(engines()).toHaveLength(1);
    system.local.kms.kill('SIGKILL');
    await until(() => engineProcesses().length === 0, 8_000);
    expect(await problemCode(await system.call('orphan'))).toBe('CFN_KMS_UNREACHABLE');
  });
});
