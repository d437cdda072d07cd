import { expect, test } from 'vitest';
import { spareProcess } from './spare-process.ts';

function factory() {
  const made: { readonly id: number; readonly ended: Promise<void>; readonly kill: () => void; killed: boolean }[] = [];
  const make = async () => {
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const one = {
      id: made.length,
      ended,
      killed: false,
      kill: () => {
        one.killed = true;
        resolve();
      },
    };
    made.push(one);
    return one;
  };
  return { made, make };
}

test('each is taken once; without a spare one is made', async () => {
  const { made, make } = factory();
  const spares = spareProcess(make);
  spares.prepare();
  spares.prepare();
  expect(made).toHaveLength(1);
  expect([(await spares.take()).id, (await spares.take()).id]).toEqual([0, 1]);
});

test('one that ended while it waited is not given', async () => {
  const { made, make } = factory();
  const spares = spareProcess(make);
  spares.prepare();
  await Promise.resolve();
  made[0]?.kill();
  await new Promise((resolve) => setImmediate(resolve));
  expect((await spares.take()).id).toBe(1);
});

test('one that cannot be made fails who takes it, and nobody else', async () => {
  let calls = 0;
  const spares = spareProcess(async () => {
    if (calls++ === 0) throw new Error('no process');
    return factory().make();
  });
  spares.prepare();
  await expect(spares.take()).rejects.toThrow('no process');
  await expect(spares.take()).resolves.toBeDefined();
});

test('closing ends the spare and makes no more', async () => {
  const { made, make } = factory();
  const spares = spareProcess(make);
  spares.prepare();
  spares.close();
  await new Promise((resolve) => setImmediate(resolve));
  expect(made[0]?.killed).toBe(true);
  spares.prepare();
  expect(made).toHaveLength(1);
});
