import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { problemCode, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.length) }';
/** Slow enough to be killed in the middle. */
const SLOW = `export default { async fetch(request, env) {
  await new Promise((resolve) => setTimeout(resolve, 300));
  return Response.json(env.VAD.outputs.length);
} }`;

let system: TestSystem;
beforeAll(async () => void (system = await startTestSystem()));
afterAll(() => system.stop());

async function serve(name: string, maxInvocations: number, source = SOURCE, leaseMs = 600_000): Promise<string> {
  const digest = await system.push(`demo/${name}@1`, VAD_MODEL);
  await system.grant(digest, `demo/${name}`, leaseMs, { maxInvocations });
  await system.deploy(name, source, { models: [{ binding: 'VAD', model: `demo/${name}@1`, digest }] });
  return digest;
}
async function count(digest: string): Promise<{ used: number; taken: number; outstanding: number }> {
  const answer = await system.kms('GET', `/v1/models/${digest}/grants`);
  const { grants } = (await answer.json()) as {
    grants: { invocations: { used: number; taken: number; outstanding: number } }[];
  };
  const [grant] = grants;
  if (grant === undefined) throw new Error('no grant');
  return grant.invocations;
}
/** `ok`, the code of the refusal, or `lost` where the answer broke off. */
async function once(name: string): Promise<string> {
  try {
    const response = await system.call(name);
    if (!response.ok) return await problemCode(response);
    await response.arrayBuffer();
    return 'ok';
  } catch {
    return 'lost';
  }
}

describe('INV-24 no more invocations than the grant says', () => {
  test('one after another: all of them, then a refusal that is final, until the owner gives more', async () => {
    const digest = await serve('counted', 5);
    const first: string[] = [];
    for (let i = 0; i < 7; i++) first.push(await once('counted'));
    expect(first.slice(0, 5)).toEqual(Array(5).fill('ok'));
    expect(first.slice(5)).toEqual(Array(2).fill('CFN_ALLOWANCE_SPENT'));
    await expect.poll(() => count(digest), { timeout: 10_000 }).toEqual({ used: 5, taken: 5, outstanding: 0 });
    await system.grant(digest, 'demo/counted', 600_000, { maxInvocations: 6 });
    expect(await once('counted')).toBe('ok');
    expect(await once('counted')).toBe('CFN_ALLOWANCE_SPENT');
  });

  test('many at once: never one more', async () => {
    const digest = await serve('rushed', 20);
    const outcomes: string[] = [];
    for (let i = 0; i < 5; i++) outcomes.push(...(await Promise.all(Array.from({ length: 10 }, () => once('rushed')))));
    expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(20);
    const codes = new Set(outcomes.filter((outcome) => outcome !== 'ok'));
    expect([...codes].filter((code) => !['CFN_ALLOWANCE_SPENT', 'CFN_ALLOWANCE_WAITING'].includes(code))).toEqual([]);
    await expect.poll(() => count(digest), { timeout: 10_000 }).toEqual({ used: 20, taken: 20, outstanding: 0 });
  });

  test('workers that are killed in the middle: what they held counts as used', { timeout: 120_000 }, async () => {
    const digest = await serve('killed', 40, SLOW, 3_000);
    let answered = 0;
    for (let round = 0; round < 3; round++) {
      const calls = Array.from({ length: 6 }, () => once('killed'));
      await new Promise((resolve) => setTimeout(resolve, 150 + 120 * round));
      const { outstanding, used } = await count(digest);
      system.local.worker().kill('SIGKILL');
      await system.local.worker().exited;
      answered += (await Promise.all(calls)).filter((outcome) => outcome === 'ok').length;
      expect(used + outstanding).toBeGreaterThanOrEqual(1);
      await system.local.startWorker();
      expect(await once('killed')).toBe('ok');
      answered += 1;
    }
    for (let refused = 0; refused < 3;) {
      const outcome = await once('killed');
      if (outcome === 'ok') answered += 1;
      else if (outcome === 'CFN_ALLOWANCE_SPENT') refused += 1;
      else await new Promise((resolve) => setTimeout(resolve, 300)); // leases of the dead, which have not ended yet
    }
    const { used, taken, outstanding } = await count(digest);
    expect(taken).toBe(40);
    expect(outstanding).toBe(0);
    expect(used).toBeLessThan(40); // the dead said nothing
    expect(answered).toBeLessThan(40);
    expect(answered).toBeGreaterThan(6);
  });
});
