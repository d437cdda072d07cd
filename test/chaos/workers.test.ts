import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LEASE_MS, startFleet, WALL_MS, type Fleet, type FleetWorker } from './fleet.ts';
import { faultsOf, sleep, startTraffic, type Outcome } from './traffic.ts';

let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 2 });
});
afterAll(() => fleet[Symbol.asyncDispose]());

/** Outcomes of requests begun in a time. */
const between = (outcomes: readonly Outcome[], from: number, to = Number.POSITIVE_INFINITY): Outcome[] =>
  outcomes.filter(({ startedAt }) => startedAt >= from && startedAt < to);
const failures = (outcomes: readonly Outcome[]): string[] => [
  ...new Set(outcomes.map(({ result }) => result).filter((result) => result !== 'ok')),
];
const last = (): FleetWorker => {
  const worker = fleet.workers.at(-1);
  if (worker === undefined) throw new Error('no worker');
  return worker;
};

/** Traffic while a fault begins, lasts and is over; what callers saw after a lease, when all must be well again. */
async function underLoad(fault: () => Promise<void> | void, lastsMs: number, heal: () => Promise<unknown> | void) {
  const traffic = startTraffic(fleet);
  await traffic.more(20);
  const beganAt = Date.now();
  await fault();
  await sleep(lastsMs);
  await heal();
  const healedAt = Date.now();
  await sleep(LEASE_MS);
  const recoveredAt = Date.now();
  await traffic.more(20);
  const outcomes = await traffic.stop();
  return {
    outcomes,
    beganAt,
    healedAt,
    recovered: between(outcomes, recoveredAt),
    // Those that had ended by then.
    before: outcomes.filter(({ startedAt, ms }) => startedAt + ms < beganAt),
  };
}

describe('a worker, under load', { timeout: 120_000 }, () => {
  test('that is killed: callers are told to retry, and the others take over at once', async () => {
    const victim = last();
    const { outcomes, before, recovered } = await underLoad(
      () => victim.process.kill('SIGKILL'),
      1_000,
      () => fleet.addWorker(),
    );
    expect(failures(before)).toEqual([]);
    expect(faultsOf(outcomes)).toEqual([]);
    expect(failures(recovered)).toEqual([]);
  });

  test('that is frozen: nobody waits longer than the deadline, and it is left out until it proves itself again', async () => {
    const victim = last();
    let thawedAt = 0;
    const { outcomes, recovered } = await underLoad(
      () => victim.process.kill('SIGSTOP'),
      LEASE_MS + WALL_MS,
      () => {
        thawedAt = Date.now();
        victim.process.kill('SIGCONT');
      },
    );
    expect(faultsOf(outcomes)).toEqual([]);
    expect(failures(recovered)).toEqual([]);
    expect(victim.reached(thawedAt + LEASE_MS).length).toBeGreaterThan(0);
  });

  test('that is cut off: the same, and no connection of before is used again', async () => {
    const victim = last();
    let healedAt = 0;
    const { outcomes, recovered } = await underLoad(
      () => victim.wire.be('cut'),
      LEASE_MS + WALL_MS,
      () => {
        healedAt = Date.now();
        victim.wire.be('good');
      },
    );
    expect(faultsOf(outcomes)).toEqual([]);
    expect(failures(recovered)).toEqual([]);
    expect(victim.reached(healedAt).length).toBeGreaterThan(0);
  });

  test('that fails its next challenge gets nothing from then on, and comes back when it answers well', async () => {
    const victim = last();
    let [failedAt, healedAt] = [0, 0];
    const { outcomes, recovered } = await underLoad(
      () => {
        victim.failChallenges(true);
        failedAt = Date.now();
      },
      2 * LEASE_MS,
      () => {
        healedAt = Date.now();
        victim.failChallenges(false);
      },
    );
    expect(faultsOf(outcomes)).toEqual([]);
    expect(failures(recovered)).toEqual([]);
    const out = victim.reached(failedAt + LEASE_MS).filter(({ at }) => at < healedAt);
    expect(out).toEqual([]);
  });

  test('that was never admitted gets nothing, nor one that says it loaded something else', async () => {
    const traffic = startTraffic(fleet);
    await traffic.more(20);
    const foreign = await fleet.addWorker('--foreign');
    const lying = await fleet.addWorker('--lying');
    await sleep(2 * LEASE_MS);
    const outcomes = await traffic.stop();
    expect(foreign.reached()).toEqual([]);
    expect(lying.reached()).toEqual([]);
    expect(faultsOf(outcomes)).toEqual([]);
  });
});
