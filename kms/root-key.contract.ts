import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { utf8 } from '../proto/index.ts';
import type { RootKey } from './root-key.ts';

/** A place where a root key lives, which tests can take away. */
export interface RootKeyPlace {
  open(mayMake: boolean): Promise<RootKey>;
  /** Another root key, made elsewhere in the same manner. */
  openOther(): Promise<RootKey>;
  /** Takes the HSM or service away, and gives it back. Not for a file, whose key is in memory. */
  readonly outage?: { begin(): Promise<void>; end(): Promise<void> };
  close(): Promise<void>;
}

const context = utf8('context');
const altered = { code: 'CFN_KEYRING_ALTERED' };
const opens = async (root: RootKey, wrapped: Uint8Array, secret: Uint8Array): Promise<void> =>
  expect(Uint8Array.from(await root.unwrap(wrapped, context))).toEqual(Uint8Array.from(secret));

/** What every root key must do. */
export function rootKeyContract(make: () => Promise<RootKeyPlace>): void {
  let place: RootKeyPlace;
  let root: RootKey;
  beforeEach(async () => {
    place = await make();
    root = await place.open(true);
  });
  afterEach(async () => {
    await root.close();
    await place.close();
  });

  test('opens what it wrapped, also after a restart', async () => {
    const secret = randomBytes(32);
    const wrapped = await root.wrap(secret, context);
    expect(Buffer.from(wrapped).includes(secret)).toBe(false);
    await opens(root, wrapped, secret);
    await root.close();
    root = await place.open(false);
    await opens(root, wrapped, secret);
  });

  test('two wrappings of one secret differ', async () => {
    const secret = randomBytes(32);
    expect(await root.wrap(secret, context)).not.toEqual(await root.wrap(secret, context));
  });

  test('refuses another context, every cut and changed bits', async () => {
    const wrapped = await root.wrap(randomBytes(32), context);
    await expect(root.unwrap(wrapped, utf8('another'))).rejects.toMatchObject(altered);
    for (let length = 0; length < wrapped.length; length++)
      await expect(root.unwrap(wrapped.subarray(0, length), context)).rejects.toMatchObject(altered);
    for (let at = 0; at < wrapped.length; at++) {
      const changed = Uint8Array.from(wrapped);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(root.unwrap(changed, context), `byte ${at}`).rejects.toMatchObject(altered);
    }
    await expect(root.unwrap(new Uint8Array(), context)).rejects.toMatchObject(altered);
  });

  test('refuses what another root key wrapped', async () => {
    const other = await place.openOther();
    const wrapped = await other.wrap(randomBytes(32), context);
    await other.close();
    await expect(root.unwrap(wrapped, context)).rejects.toMatchObject(altered);
    await expect(root.rewrap(wrapped, context)).rejects.toMatchObject(altered);
  });

  test('after rotation wraps under the new version, and opens what older ones wrapped', async () => {
    const secret = randomBytes(32);
    const old = await root.wrap(secret, context);
    expect([await root.version(), root.versionOf(old)]).toEqual([1, 1]);
    expect(await root.rotate()).toBe(2);
    expect(root.versionOf(await root.wrap(secret, context))).toBe(2);
    await opens(root, old, secret);
    const fresh = await root.rewrap(old, context);
    expect(root.versionOf(fresh)).toBe(2);
    await opens(root, fresh, secret);
    await root.close();
    root = await place.open(false);
    expect(await root.version()).toBe(2);
    await opens(root, old, secret);
    await opens(root, fresh, secret);
  });

  test('serves many callers at once', async () => {
    const secrets = Array.from({ length: 50 }, () => randomBytes(32));
    const wrapped = await Promise.all(secrets.map((secret) => root.wrap(secret, context)));
    const opened = await Promise.all(wrapped.map((one) => root.unwrap(one, context)));
    expect(opened.map((one) => one.toString('hex'))).toEqual(secrets.map((one) => one.toString('hex')));
  });

  describe('while it is gone', () => {
    test('every call fails with a code, and works again afterwards without a restart', async (on) => {
      const { outage } = place;
      if (outage === undefined) return on.skip('a file is read once');
      const secret = randomBytes(32);
      const wrapped = await root.wrap(secret, context);
      for (let times = 0; times < 2; times++) {
        await outage.begin();
        const gone = { code: 'CFN_ROOT_KEY_UNREACHABLE' };
        await expect(root.unwrap(wrapped, context)).rejects.toMatchObject(gone);
        await expect(root.wrap(secret, context)).rejects.toMatchObject(gone);
        await expect(root.rotate()).rejects.toMatchObject(gone);
        await expect(place.open(false)).rejects.toMatchObject(gone);
        await outage.end();
        await opens(root, wrapped, secret);
      }
    });
  });

  test('makes no key where one is missing beside a keyring', async () => {
    const empty = await make();
    try {
      await expect(empty.open(false)).rejects.toMatchObject({
        code: expect.stringMatching(/^CFN_(ROOT_KEY_UNREACHABLE|STORE_FAILED)$/) as string,
      });
    } finally {
      await empty.close();
    }
  });
}
