import { describe, expect, test } from 'vitest';
import { BODY_WINDOW_BYTES } from '../../proto/index.ts';
import { crediting, openWindow } from '../ipc/flow.ts';
import { incoming } from './incoming.ts';

function setup() {
  const log: string[] = [];
  const body = incoming({
    deliver: (bytes) => log.push(`bytes ${bytes.byteLength}`),
    ended: (code) => log.push(`ended ${code ?? 'whole'}`),
    credit: (bytes) => log.push(`credit ${bytes}`),
    wipe: (bytes) => log.push(`wiped ${bytes.fill(0).length}`),
  });
  return { body, log };
}
const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(1);

describe('a body that comes', () => {
  test('is given out one piece for each time it is asked for, and its end as often as it is asked for', () => {
    const { body, log } = setup();
    body.push(bytes(3));
    body.push(bytes(4));
    expect(log).toEqual([]);
    body.pull();
    body.pull();
    body.pull();
    body.end();
    body.pull();
    expect(log).toEqual(['bytes 3', 'bytes 4', 'ended whole', 'ended whole']);
  });
  test('that breaks off is told at once, before what is left of it', () => {
    const { body, log } = setup();
    body.push(bytes(3));
    body.end('CFN_REQUEST_MALFORMED');
    body.end();
    body.pull();
    expect(log).toEqual(['ended CFN_REQUEST_MALFORMED']);
  });
  test('is overwritten where nobody wants it, and its sender is not held up', () => {
    const { body, log } = setup();
    body.push(bytes(3));
    body.drop();
    body.push(bytes(BODY_WINDOW_BYTES));
    expect(log).toEqual(['wiped 3', `credit ${BODY_WINDOW_BYTES + 3}`, `wiped ${BODY_WINDOW_BYTES}`]);
  });
  test('earns its sender credit for what was asked for, not for what came', () => {
    const { body, log } = setup();
    for (let i = 0; i < 4; i++) body.push(bytes(BODY_WINDOW_BYTES / 8));
    expect(log.filter((line) => line.startsWith('credit'))).toEqual([]);
    for (let i = 0; i < 4; i++) body.pull();
    expect(log.filter((line) => line.startsWith('credit'))).toEqual(Array(2).fill(`credit ${BODY_WINDOW_BYTES / 4}`));
  });
});

describe('a window', () => {
  test('holds up who sends when it is full, until credit comes', async () => {
    const window = openWindow(10);
    expect(window.room()).toBeUndefined();
    window.spend(25);
    let open = false;
    const waiting = window.room()?.then(() => (open = true));
    window.add(10);
    await new Promise((resolve) => setImmediate(resolve));
    expect(open).toBe(false); // 15 were too many
    window.add(6);
    await waiting;
    expect(window.room()).toBeUndefined();
  });
  test('that is closed holds up nobody', async () => {
    const window = openWindow(1);
    window.spend(5);
    const waiting = window.room();
    window.close();
    await waiting;
    expect(window.room()).toBeUndefined();
  });
  test('credit is given a quarter of it at a time: small bodies cost no message', () => {
    const granted: number[] = [];
    const used = crediting(100, (credit) => granted.push(credit));
    used(24);
    expect(granted).toEqual([]);
    used(1);
    used(60);
    expect(granted).toEqual([25, 60]);
  });
});
