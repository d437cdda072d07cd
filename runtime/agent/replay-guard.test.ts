import { expect, test } from 'vitest';
import { REQUEST_SKEW_MS_MAX } from '../../proto/index.ts';
import { replayGuard } from './replay-guard.ts';

const DAY_MS = 24 * 60 * 60_000;
const key = (name: string): Uint8Array => new TextEncoder().encode(name);

/** A guard, and a clock that can be set. */
function house() {
  let nowMs = Date.parse('2026-11-23T12:00:00Z');
  const refuseReplay = replayGuard(() => new Date(nowMs));
  return {
    send: (name: string, dateMs = nowMs): void => refuseReplay(key(name), new Date(dateMs)),
    nowMs: () => nowMs,
    pass: (ms: number): void => void (nowMs += ms),
  };
}

test('a request is taken once, and only near its Date', () => {
  const { send, nowMs, pass } = house();
  const sentMs = nowMs();
  send('a');
  send('b');
  expect(() => send('a')).toThrow(expect.objectContaining({ code: 'CFN_REQUEST_REPLAYED' }));
  pass(REQUEST_SKEW_MS_MAX + 1);
  expect(() => send('c', sentMs)).toThrow(expect.objectContaining({ code: 'CFN_REQUEST_EXPIRED' }));
  pass(REQUEST_SKEW_MS_MAX);
  send('d'); // a and b are forgotten
  send('e', nowMs() - REQUEST_SKEW_MS_MAX + 1); // and take nobody's time away
  expect(() => send('f', Number.NaN)).toThrow(expect.objectContaining({ code: 'CFN_REQUEST_EXPIRED' }));
});

test('a clock that is set forward and back again, or back, lets no request in twice', () => {
  const { send, nowMs, pass } = house();
  const sentMs = nowMs();
  send('a', sentMs);
  pass(DAY_MS);
  send('tomorrow'); // a is forgotten
  pass(1_000 - DAY_MS);
  expect(() => send('a', sentMs)).toThrow(expect.objectContaining({ code: 'CFN_REQUEST_EXPIRED' }));
  send('b'); // younger than what was forgotten
  pass(-1_000);
  expect(() => send('b', sentMs + 1_000)).toThrow(expect.objectContaining({ code: 'CFN_REQUEST_REPLAYED' }));
});
