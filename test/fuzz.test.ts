import { describe, expect, test } from 'vitest';
import { CfnError } from '../proto/index.ts';
import { mutate } from '../scripts/fuzz/mutate.ts';
import { seededRandom } from '../scripts/fuzz/random.ts';
import { fuzz, FuzzFinding } from '../scripts/fuzz/run.ts';
import type { Target } from '../scripts/fuzz/target.ts';
import { targets } from '../scripts/fuzz/targets.ts';

/** A short run of `npm run fuzz` that is the same each time: no mutation of recorded evidence crashes, hangs, or is taken for genuine. */
describe.each(targets())('$name', (target) => {
  const count = target.name.startsWith('verify-') ? 150 : 400;

  test(`stands ${count} mutations`, async () => {
    const executions = await fuzz(target, {
      seed: 1,
      monotonicMs: () => performance.now(),
      goOn: (done) => done < count,
    });
    expect(executions).toBe(count);
  });

  test('accepts something unchanged', async () => {
    const outcomes = await Promise.allSettled(target.seeds.map(async (seed) => target.run(seed.parts, seed)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0);
  });
});

describe('the fuzzer finds', () => {
  const options = { seed: 7, monotonicMs: () => performance.now(), goOn: (done: number) => done < 500 };
  const target = (run: Target['run']): Target => ({
    name: 'made-up',
    seeds: [{ name: 'seed', parts: { input: Uint8Array.from({ length: 32 }, (_, i) => i) } }],
    run,
  });
  const first = ({ input = new Uint8Array() }: Parameters<Target['run']>[0]): number => input[0] ?? -1;

  test('what is thrown and is no CfnError', async () => {
    const run: Target['run'] = (parts) => {
      if (first(parts) === 0xff) throw new TypeError('undefined is not a function');
      return undefined;
    };
    await expect(fuzz(target(run), options)).rejects.toThrow(FuzzFinding);
  });

  test('what is accepted and means something else', async () => {
    await expect(
      fuzz(
        target((parts) => String(first(parts))),
        options,
      ),
    ).rejects.toThrow(/means something else/);
  });

  test('what takes too long', async () => {
    let now = 0;
    const run: Target['run'] = (parts) => {
      if (first(parts) !== 0) now += 10_000;
      return undefined;
    };
    await expect(fuzz(target(run), { ...options, monotonicMs: () => now })).rejects.toThrow(/took 10000 ms/);
  });

  test('nothing in refusals', async () => {
    const run: Target['run'] = () => {
      throw new CfnError('CFN_EVIDENCE_MALFORMED', 'refused');
    };
    expect(await fuzz(target(run), options)).toBe(500);
  });
});

test('a seed repeats its mutations', () => {
  const input = new TextEncoder().encode('{"a":[1,2,3],"b":"text"}');
  const run = (seed: number): string => {
    const random = seededRandom(seed);
    return Array.from({ length: 50 }, () => new TextDecoder().decode(mutate(input, random, [input]))).join('|');
  };
  expect(run(3)).toBe(run(3));
  expect(run(3)).not.toBe(run(4));
});
