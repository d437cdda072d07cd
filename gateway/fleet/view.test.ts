import { expect, test } from 'vitest';
import { view } from './view.ts';

/** Reads what is there, and counts. */
function shelf(things: Record<string, string>): {
  reads: number;
  read: (subject: string) => () => Promise<string | undefined>;
} {
  const it = {
    reads: 0,
    read: (subject: string) => async () => {
      it.reads++;
      return things[subject];
    },
  };
  return it;
}

test('reads once until the subject is dropped, also what is not there', async () => {
  const it = shelf({ a: '1' });
  const known = view(() => true, 10, 10);
  for (let i = 0; i < 3; i++) expect(await known.get('a', it.read('a'))).toBe('1');
  for (let i = 0; i < 3; i++) expect(await known.get('b', it.read('b'))).toBeUndefined();
  expect(it.reads).toBe(2);
  known.drop('a');
  known.drop('b');
  await known.get('a', it.read('a'));
  await known.get('b', it.read('b'));
  expect(it.reads).toBe(4);
});

test('what is not there drives out nothing that is', async () => {
  const it = shelf({ a: '1' });
  const known = view(() => true, 1, 2);
  await known.get('a', it.read('a'));
  for (let i = 0; i < 100; i++) await known.get(`guess ${i}`, it.read(`guess ${i}`));
  const { reads } = it;
  expect(await known.get('a', it.read('a'))).toBe('1');
  expect(it.reads).toBe(reads);
});

test('what was changed while it was read, and what could not be read, is not kept', async () => {
  const known = view(() => true, 10, 10);
  const slow = Promise.withResolvers<string>();
  const first = known.get('a', () => slow.promise);
  known.drop('a');
  slow.resolve('old');
  expect(await first).toBe('old');
  expect(await known.get('a', async () => 'new')).toBe('new');
  await expect(known.get('b', () => Promise.reject(new Error('away')))).rejects.toThrow('away');
  expect(await known.get('b', async () => 'there')).toBe('there');
});

test('one that is too old is not used', async () => {
  let current = true;
  const known = view(() => current, 10, 10);
  await known.get('a', async () => 'old');
  current = false;
  expect(await known.get('a', async () => 'new')).toBe('new');
});
