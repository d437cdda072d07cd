import { createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { unwrapUnder, wrapUnder } from './aead.ts';

const key = createSecretKey(randomBytes(32));
const keyring = {
  wrap: (secret: Uint8Array, bound: Uint8Array) => wrapUnder(key, secret, bound, randomBytes),
  unwrap: (wrapped: Uint8Array, bound: Uint8Array) => unwrapUnder(key, wrapped, bound),
};
const context = Uint8Array.of(1, 2, 3);
const altered = expect.objectContaining({ code: 'CFN_KEYRING_ALTERED' }) as Error;

describe('aead', () => {
  test('opens what it wrapped', () => {
    const secret = randomBytes(32);
    const wrapped = keyring.wrap(secret, context);
    expect(wrapped).toHaveLength(12 + 32 + 16);
    expect(keyring.unwrap(wrapped, context)).toEqual(secret);
  });

  test('two wrappings of one key differ', () => {
    const secret = randomBytes(32);
    expect(keyring.wrap(secret, context)).not.toEqual(keyring.wrap(secret, context));
  });

  test('refuses any changed bit', () => {
    const wrapped = keyring.wrap(randomBytes(32), context);
    fc.assert(
      fc.property(fc.nat(wrapped.length - 1), fc.nat(7), (at, bit) => {
        const changed = Uint8Array.from(wrapped);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        expect(() => keyring.unwrap(changed, context)).toThrow(altered);
      }),
    );
  });

  test('refuses every cut', () => {
    const wrapped = keyring.wrap(randomBytes(32), context);
    for (let length = 0; length < wrapped.length; length++) {
      expect(() => keyring.unwrap(wrapped.subarray(0, length), context)).toThrow(altered);
    }
  });

  test("refuses another context's and another key's wrapping", () => {
    const wrapped = keyring.wrap(randomBytes(32), context);
    expect(() => keyring.unwrap(wrapped, Uint8Array.of(1, 2))).toThrow(altered);
    expect(() => unwrapUnder(createSecretKey(randomBytes(32)), wrapped, context)).toThrow(altered);
  });
});
