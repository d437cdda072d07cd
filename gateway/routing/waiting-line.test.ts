import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { waitingLine, type Wait } from './waiting-line.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A line for one place that is free or not. */
function house() {
  let free = 0;
  const order: string[] = [];
  const line = waitingLine<string>({ monotonicMs: () => Date.now() });
  const wait = (tenant: string, version: string, more: Partial<Wait<string>> = {}): Promise<string> => {
    const take = (): string | undefined => (free > 0 ? (free--, version) : undefined);
    const waited = line.wait({ tenant, version, queue: version, take, ...more });
    waited.then(
      () => order.push(`${tenant}/${version}`),
      () => undefined,
    );
    return waited;
  };
  const give = async (places: number): Promise<void> => {
    free += places;
    line.serve();
    await vi.advanceTimersByTimeAsync(0);
  };
  return { line, wait, give, order };
}

test('tenants take turns, and so do the functions of one: who sends much waits behind their own', async () => {
  const { line, wait, give, order } = house();
  for (let i = 0; i < 3; i++) void wait('much', 'a');
  void wait('much', 'b');
  void wait('little', 'c');
  await give(3);
  expect(order).toEqual(['much/a', 'little/c', 'much/b']);
  await give(5);
  expect(order.slice(3)).toEqual(['much/a', 'much/a']);
  expect([line.length(), line.isWaiting('a')]).toEqual([0, false]);
});

test('who waited too long is told that it is busy, and when to come again', async () => {
  const { line, wait } = house();
  const refused = expect(wait('acme', 'a')).rejects.toMatchObject({ code: 'CFN_BUSY', retryAfterSeconds: 1 });
  await vi.advanceTimersByTimeAsync(5_000);
  await refused;
  expect(line.length()).toBe(0);
});

test('who would wait too long is told so at once; the seconds follow from how fast requests end', async () => {
  const { line, wait } = house();
  const waits = Array.from({ length: 8 }, () => wait('acme', 'a').catch(() => undefined));
  for (let i = 0; i < 40; i++) {
    line.ended('a');
    await vi.advanceTimersByTimeAsync(100); // ten a second
  }
  const ahead = line.length();
  expect(ahead).toBe(8);
  await vi.advanceTimersByTimeAsync(1_100);
  await Promise.all(waits); // their time is over
  const slow = house();
  void slow.wait('acme', 'a').catch(() => undefined);
  for (let i = 0; i < 30; i++) {
    slow.line.ended('a');
    vi.setSystemTime(Date.now() + 2_000); // one in two seconds
  }
  void slow.wait('acme', 'a').catch(() => undefined);
  await expect(slow.wait('acme', 'a')).rejects.toMatchObject({ code: 'CFN_BUSY', retryAfterSeconds: 6 });
  await vi.advanceTimersByTimeAsync(5_000);
});

test('only so many wait for the same', async () => {
  const { wait } = house();
  const waits = Array.from({ length: 200 }, () => wait('acme', 'a').catch(() => undefined));
  await expect(wait('acme', 'a')).rejects.toMatchObject({ code: 'CFN_BUSY' });
  await vi.advanceTimersByTimeAsync(5_000);
  await Promise.all(waits);
});

test('no tenant fills the line: it may wait at as many places as it leaves free', async () => {
  const { line, wait, give, order } = house();
  const fill = (tenant: string): Promise<unknown>[] =>
    Array.from({ length: 12_000 }, (_, i) => wait(tenant, `${tenant}-${i % 100}`).catch(() => undefined));
  const much = fill('much');
  expect(line.length()).toBe(5_000);
  const more = fill('more');
  expect(line.length()).toBe(7_500);
  const little = wait('little', 'c');
  expect(line.length()).toBe(7_501);
  await give(3);
  expect(order).toContain('little/c');
  await little;
  await vi.advanceTimersByTimeAsync(5_000);
  await Promise.all([...much, ...more]);
  expect(line.length()).toBe(0);
});

test('a caller who goes away leaves the line', async () => {
  const { line, wait, give, order } = house();
  const gone = new AbortController();
  const left = wait('acme', 'a', { gone: gone.signal });
  void wait('acme', 'a');
  gone.abort();
  await expect(left).rejects.toMatchObject({ code: 'CFN_ABORTED' });
  await give(1);
  expect([order, line.length()]).toEqual([['acme/a'], 0]);
  await expect(wait('acme', 'a', { gone: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CFN_ABORTED' });
});

test('who waits for what never comes is told so when that is known', async () => {
  const { wait, give } = house();
  const take = (): never => {
    throw new TypeError('a bug');
  };
  const lost = expect(wait('acme', 'a', { take })).rejects.toMatchObject({ code: 'CFN_INTERNAL' });
  await give(1);
  await lost;
});
