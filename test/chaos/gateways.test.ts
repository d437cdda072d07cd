import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LEASE_MS, startFleet, type Fleet } from './fleet.ts';
import { faultsOf, sleep, startTraffic } from './traffic.ts';

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2 });
});
afterAll(() => fleet[Symbol.asyncDispose]());

describe('a gateway, under load', { timeout: 120_000 }, () => {
  test('that is killed comes back with what it knew, and admits anew before it routes', async () => {
    const traffic = startTraffic(fleet);
    await traffic.more(20);
    const [first] = fleet.gateways;
    first?.process.kill('SIGKILL');
    await first?.process.exited;
    if (first !== undefined) await fleet.restart(first);
    await sleep(LEASE_MS);
    const recoveredAt = Date.now();
    await traffic.more(20);
    const outcomes = await traffic.stop();
    expect(faultsOf(outcomes, { cutsAllowed: true })).toEqual([]);
    const recovered = outcomes.filter(({ startedAt }) => startedAt >= recoveredAt);
    expect(recovered.filter(({ result }) => result !== 'ok')).toEqual([]);
  });
});
