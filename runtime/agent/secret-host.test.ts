import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CfnError, type SignedManifest } from '../../proto/index.ts';
import { secretHost, type SecretsUse } from './secret-host.ts';

/** The clock of leases is a number here, and does not follow that of timers: a suspended machine is one on which it jumps. */
let clock: number;
let shortened: (remainingMs: number) => void;
let reported: string[];
let refusal: CfnError | undefined;

beforeEach(() => {
  vi.useFakeTimers();
  [clock, reported, refusal] = [0, [], undefined];
});
afterEach(() => vi.useRealTimers());

const first = { lease: 'l', policy: 'p', challenge: 'c', endsAt: 60_000 };
const wrapped = { enc: 'e', ciphertext: 'c' };

async function acquire(): Promise<{ use: SecretsUse; seen: string[] }> {
  const host = secretHost({
    keys: {
      releaseSecrets: async (_, { renew }) => {
        if (renew !== undefined && refusal !== undefined) throw refusal;
        return { ...first, wrapped };
      },
      leaseRemainingMs: async () => first.endsAt - clock,
    },
    watch: {
      follow(_kms, _lease, follower) {
        shortened = follower.shortened;
        return { hears: () => true, stop: () => undefined };
      },
      close: () => undefined,
    },
    drops: { report: (_kms, _lease, reason) => void reported.push(reason), settled: async () => undefined },
    leaseClockMs: () => clock,
    log: () => undefined,
  });
  const kms = { url: 'http://kms', publicKey: 'k' };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all of a manifest that is looked at
  const signed = { jws: 'j', version: 'v', manifest: { secrets: { kms } } } as unknown as SignedManifest;
  const use = await host.acquire(signed, async () => 'key');
  if (use === undefined) throw new Error('no secrets');
  const seen: string[] = [];
  void use.changed.then(() => seen.push('changed'));
  void use.ended.then(() => seen.push('ended'));
  return { use, seen };
}
const pass = async (ms: number): Promise<void> => {
  for (let passed = 0; passed < ms; passed += 50) {
    clock += 50;
    await vi.advanceTimersByTimeAsync(50);
  }
};

test('secrets that the KMS gives no more end with the time of their lease, and not before', async () => {
  const { use, seen } = await acquire();
  refusal = new CfnError('CFN_LEASE_ENDED', 'withdrawn');
  await pass(31_000); // the renewal is refused
  expect(seen).toEqual(['changed']);
  await pass(28_800);
  expect(seen).toEqual(['changed']);
  await pass(300);
  expect(seen).toEqual(['changed', 'ended']);
  use.dropped();
  expect(reported).toEqual(['CFN_LEASE_ENDED']);
});

test('they end at once after a suspend in which the time passed', async () => {
  const { seen } = await acquire();
  refusal = new CfnError('CFN_LEASE_ENDED', 'withdrawn');
  await pass(31_000);
  clock += 3600_000; // timers saw nothing of it
  await vi.advanceTimersByTimeAsync(500);
  expect(seen).toEqual(['changed', 'ended']);
});

test('a lease that ended in a suspend leaves no time to ask anew', async () => {
  const { seen } = await acquire();
  clock += 3600_000;
  await vi.advanceTimersByTimeAsync(100);
  expect(seen).toEqual(['ended']);
});

test('a sandbox that is gone is watched no more', async () => {
  const { use, seen } = await acquire();
  shortened(0);
  await vi.advanceTimersByTimeAsync(0);
  use.dropped();
  clock += 3600_000;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(seen).toEqual(['changed']);
  expect(vi.getTimerCount()).toBe(0);
});
