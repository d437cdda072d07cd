import { describe, expect, test } from 'vitest';
import { fromUtf8, toHex, utf8 } from '../../proto/index.ts';
import type { Case } from './cases.ts';
import { prepare } from './conventions.ts';

const subject = (change: Partial<Case>): Case => ({
  id: 'a-case',
  inputs: ['x'],
  now: '2025-06-25T00:00:00Z',
  expect: 'reject',
  ...change,
});
const input = { path: 'x', bytes: utf8(`{"pcrs":["${'3a'.repeat(32)}"],"x":1}`) };
const prepared = (change: Partial<Case>) => prepare(subject(change), [input]);
const nonce = (change: Partial<Case>): string | undefined => {
  const value = prepared(change).nonce;
  return value && toHex(value);
};
const ZEROS = '00'.repeat(32);
const STATED = '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb';

describe('the nonce', () => {
  test.each<[string, Partial<Case>, string | undefined]>([
    ['is the case’s own', { nonce: 'abcd', reason: 'nonce differs' }, 'abcd'],
    ['is another one', { reason: 'expected nonce 00..00 differs from request nonce' }, ZEROS],
    ['is the case’s own, in capitals, too', { nonce: 'ABCD' }, 'abcd'],
    ['is that of the fields, in capitals, too', { fields: { nonce: STATED.toUpperCase() } }, STATED],
    ['is another one, as the note says', { note: 'use any other 32-byte nonce' }, ZEROS],
    ['is another one, in other words', { reason: 'nonce differs (any other value); trustee tests the same' }, ZEROS],
    ['is another one, by the id', { id: 'az-snp-wrong-nonce' }, ZEROS],
    [
      'is another one, of a token',
      { reason: 'expected nonce differs from eat_nonce', note: 'use any other nonce' },
      ZEROS,
    ],
    ['is that of the fields', { expect: 'accept', fields: { nonce: STATED } }, STATED],
    ['is that of the token’s fields', { expect: 'accept', fields: { eat_nonce: STATED } }, STATED],
    ['is the one stated', { expect: 'accept', reason: 'nonce "challenge" (6368616c6c656e6765)' }, '6368616c6c656e6765'],
    ['is not another one where the case accepts', { expect: 'accept', note: 'use any other nonce' }, undefined],
    ['is not given', { expect: 'accept', reason: 'GPU SPDM request nonce==nonce; NRAS eat_nonce==nonce' }, undefined],
    ['is not given for a tampered one', { reason: 'report data was changed after signing' }, undefined],
  ])('%s', (_, change, expected) => {
    expect(nonce(change)).toBe(expected);
  });
});

describe('inputs', () => {
  const differing = (change: Partial<Case>): number => {
    const [changed] = prepared(change).inputs;
    return [...(changed?.bytes ?? [])].filter((byte, i) => byte !== input.bytes[i]).length;
  };

  test('a PCR value is changed, in JSON that stays JSON', () => {
    const [changed] = prepared({ reason: 'change any PCR value: PCR digest mismatch' }).inputs;
    expect(fromUtf8(changed?.bytes ?? new Uint8Array())).toBe(`{"pcrs":["2a${'3a'.repeat(31)}"],"x":1}`);
  });

  test('a bit is changed', () => {
    expect(differing({ note: 'flip any bit of the report' })).toBe(1);
  });

  test('nothing is changed where the case accepts, or says that it was done already', () => {
    expect(differing({ expect: 'accept', reason: 'change any PCR value' })).toBe(0);
    expect(differing({ reason: 'one bit of the report is flipped' })).toBe(0);
    expect(differing({})).toBe(0);
  });
});
