import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CfnError, utf8, type LeaseEvent } from '../../proto/index.ts';
import { proveAnswer } from '../../proto/node.ts';
import { readLeaseEvents } from './read-lease-events.ts';

const key = randomBytes(32);
const line = (event: object, by: Uint8Array = key): string => {
  const json = JSON.stringify(event);
  return `${proveAnswer(by, json)} ${json}\n`;
};
async function read(...pieces: readonly string[]): Promise<LeaseEvent[]> {
  const events: LeaseEvent[] = [];
  const mismatch = (): CfnError => new CfnError('CFN_KMS_MISMATCH', 'another KMS');
  for await (const event of readLeaseEvents(pieces.map(utf8), key, mismatch)) events.push(event);
  return events;
}

describe('INV-25 lease events', () => {
  test('are read however they are cut into pieces', async () => {
    const text = line({ n: 0 }) + line({ n: 1, lease: 'l', remainingMs: 0 });
    const expected = [{ n: 0 }, { n: 1, lease: 'l', remainingMs: 0 }];
    expect(await read(text)).toEqual(expected);
    expect(await read(...text.split(''))).toEqual(expected);
  });

  test.each<[string, string]>([
    ['by another key', line({ n: 0 }, randomBytes(32))],
    ['without a proof', '{"n":0}\n'],
    ['changed', line({ n: 0, lease: 'l', remainingMs: 5 }).replace('5}', '9}')],
    ['again', line({ n: 0 }) + line({ n: 0 })],
    ['with one left out', line({ n: 0 }) + line({ n: 2 })],
    ['without an end', 'x'.repeat(2000)],
  ])('are refused %s', async (_what, text) => {
    await expect(read(text)).rejects.toMatchObject({ code: 'CFN_KMS_MISMATCH' });
  });

  test('that are proven and not of the contract end the stream', async () => {
    await expect(read(line({ n: 0, more: 1 }))).rejects.toMatchObject({ code: 'CFN_KMS_UNREACHABLE' });
  });
});
