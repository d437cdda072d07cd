import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Account, QuotaBook } from './book.ts';

const nothing = { requests: 0, engineMs: 0, bytes: 0 };

/** What every {@link QuotaBook} does. `open` gives another view of the same book; `pass` lets so much of its time go by; `slotsMs` as the book was made with. */
export function bookContract(
  open: () => QuotaBook,
  slotsMs: number,
  pass: (ms: number) => Promise<unknown> = sleep,
): void {
  const at = (gateway: string, rest: Partial<Account>): Account => ({ gateway, periods: [], ...rest });
  let tenants = 0;
  const tenant = (): string => `tenant-${tenants++}`;

  test('gives out a burst once, over all gateways, and then what comes with time', async () => {
    const name = tenant();
    const [a, b] = [open(), open()];
    const rate = { perSecond: 20, burst: 10, wanted: 4 };
    const given = await Promise.all(
      Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? a : b).settle(name, at(`g${i % 2}`, { rate }))),
    );
    const sum = given.reduce((all, { tokens }) => all + tokens, 0);
    expect(sum).toBeGreaterThanOrEqual(10);
    expect(sum).toBeLessThanOrEqual(13); // a little time went by
    const empty = await a.settle(name, at('g0', { rate }));
    expect(empty.retryMs).toBeGreaterThan(0);
    expect(empty.retryMs).toBeLessThanOrEqual(50);
    await pass(300);
    const later = await b.settle(name, at('g1', { rate: { ...rate, wanted: 10 } }));
    expect(later.tokens).toBeGreaterThanOrEqual(5);
  });

  test('a pause saves no more than a burst', async () => {
    const name = tenant();
    const rate = { perSecond: 1000, burst: 3, wanted: 100 };
    await open().settle(name, at('g', { rate }));
    await pass(50);
    expect((await open().settle(name, at('g', { rate }))).tokens).toBe(3);
  });

  test('less than one request a second is counted, too', async () => {
    const name = tenant();
    const rate = { perSecond: 0.5, burst: 1, wanted: 1 };
    expect((await open().settle(name, at('g', { rate }))).tokens).toBe(1);
    const second = await open().settle(name, at('g', { rate }));
    expect(second.tokens).toBe(0);
    expect(second.retryMs).toBeGreaterThan(1_500);
    expect(second.retryMs).toBeLessThanOrEqual(2_000);
  });

  test('gateways together never hold more slots than there are', async () => {
    const name = tenant();
    const want = (gateway: string, wanted: number, inUse = 0) =>
      open().settle(name, at(gateway, { slots: { max: 5, inUse, wanted } }));
    expect(await want('a', 3)).toMatchObject({ slots: 3, gateways: 1 });
    expect(await want('b', 4)).toMatchObject({ slots: 2, gateways: 2 });
    expect(await want('c', 1)).toMatchObject({ slots: 0, gateways: 3 });
    expect(await want('a', 1)).toMatchObject({ slots: 1 });
    expect(await want('c', 4)).toMatchObject({ slots: 2 });
    // What is under way is held, also where the limit was lowered, or the book forgot.
    expect(await want('d', 7, 6)).toMatchObject({ slots: 6 });
    expect(await want('a', 2)).toMatchObject({ slots: 0 });
  });

  test('slots of a gateway that is silent come back', async () => {
    const name = tenant();
    const want = (gateway: string) => open().settle(name, at(gateway, { slots: { max: 2, inUse: 0, wanted: 2 } }));
    expect((await want('killed')).slots).toBe(2);
    await pass(slotsMs / 2);
    expect((await want('other')).slots).toBe(0);
    await pass(slotsMs / 2 + 50);
    expect(await want('other')).toMatchObject({ slots: 2, gateways: 1 });
  });

  test('sums what gateways counted; the same told twice counts once', async () => {
    const name = tenant();
    const tell = (gateway: string, requests: number, engineMs: number, bytes: number) =>
      open().settle(
        name,
        at(gateway, {
          periods: [
            { id: '2026-11-23', keepSeconds: 100, used: { requests, engineMs, bytes } },
            { id: '2026-11', keepSeconds: 100, used: { requests: requests + 1, engineMs, bytes } },
          ],
        }),
      );
    await tell('a', 1, 10, 100);
    await tell('a', 2, 20, 5e9);
    await tell('a', 2, 20, 5e9);
    expect((await tell('b', 1, 1, 1)).used).toEqual([
      { requests: 3, engineMs: 21, bytes: 5e9 + 1 },
      { requests: 5, engineMs: 21, bytes: 5e9 + 1 },
    ]);
    // Another day begins at nothing, and other tenants have their own.
    const next = { periods: [{ id: '2026-11-24', keepSeconds: 100, used: nothing }] };
    expect((await open().settle(name, at('a', next))).used).toEqual([nothing]);
    const other = { periods: [{ id: '2026-11-23', keepSeconds: 100, used: nothing }] };
    expect((await open().settle(tenant(), at('a', other))).used).toEqual([nothing]);
  });

  test('no limit is no tokens and no slots, and a gateway is counted all the same', async () => {
    expect(await open().settle(tenant(), at('a', {}))).toEqual({
      tokens: 0,
      retryMs: 0,
      slots: 0,
      gateways: 1,
      used: [],
    });
  });
}
