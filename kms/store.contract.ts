import { expect, test } from 'vitest';
import { REFUSALS_KEPT } from './limits.ts';
import type { KeyStore, StoredGrant, StoredLease, StoredModel } from './store.ts';

const digest = 'd'.repeat(64);
const at = Date.parse('2026-11-01T00:00:00Z');
const hour = 3_600_000;

const model: StoredModel = {
  digest,
  owner: 'acme',
  model: 'acme/m@1',
  wrappedKey: Uint8Array.of(1, 2, 3),
  storedAt: at,
};
const until = (ms: number): string => new Date(ms).toISOString();
const grant: StoredGrant = {
  id: 'g1',
  digest,
  owner: 'acme',
  grant: { tenant: 'tenant', function: 'ocr', leaseMs: 60_000, until: until(at + hour) },
  grantedAt: at,
};
const lease: StoredLease = {
  id: 'l1',
  digest,
  owner: 'acme',
  tenant: 'tenant',
  function: 'ocr',
  version: 'v',
  worker: 'w',
  receiptKey: 'k',
  tee: 'simulated',
  grant: 'g1',
  evidence: 'e',
  policy: 'p',
  startedAt: at,
  endsAt: at + 60_000,
};
const term = { grant: 'g1', evidence: 'e2', policy: 'p2', endsAt: at + 90_000 };

async function filled(make: () => KeyStore): Promise<KeyStore> {
  const store = make();
  await store.addOwner('acme', Uint8Array.of(9), at);
  await store.addModel(model);
  await store.putGrant(grant);
  return store;
}

/** What every KeyStore must do. @param make opens an empty store */
export function storeContract(make: () => KeyStore): void {
  test('keeps owners; a name is taken once', async () => {
    using store = disposable(make());
    expect(await store.addOwner('acme', Uint8Array.of(9), at)).toBe(true);
    expect(await store.addOwner('acme', Uint8Array.of(8), at)).toBe(false);
    expect(await store.ownerTokenDigest('acme')).toEqual(Uint8Array.of(9));
    expect(await store.ownerTokenDigest('other')).toBeUndefined();
  });

  test('keeps one sealing key', async () => {
    using store = disposable(make());
    expect(await store.sealingKey()).toBeUndefined();
    await store.addSealingKey('public', Uint8Array.of(7));
    expect(await store.sealingKey()).toEqual({ publicKey: 'public', wrapped: Uint8Array.of(7) });
    await expect(store.addSealingKey('other', Uint8Array.of(6))).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });

  test('keeps models by digest and owner; the first record stays', async () => {
    using store = disposable(await filled(make));
    expect(await store.addModel({ ...model, wrappedKey: Uint8Array.of(4) })).toBe(false);
    expect(await store.model(digest, 'acme')).toEqual(model);
    expect(await store.model(digest, 'other')).toBeUndefined();
    await store.addOwner('other', Uint8Array.of(1), at);
    expect(await store.addModel({ ...model, owner: 'other', model: 'other/m@1' })).toBe(true);
    expect((await store.models('acme')).map((entry) => entry.owner)).toEqual(['acme']);
    expect(await store.models(undefined)).toHaveLength(2);
  });

  test('refuses a model of an unknown owner and a grant of an unknown model', async () => {
    using store = disposable(await filled(make));
    await expect(store.addModel({ ...model, owner: 'nobody' })).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
    await expect(store.putGrant({ ...grant, id: 'g2', owner: 'nobody' })).rejects.toMatchObject({
      code: 'CFN_STORE_FAILED',
    });
  });

  test('replaces a grant, and ends its leases no later than it', async () => {
    using store = disposable(await filled(make));
    expect(await store.addLease(lease)).toBe(true);
    const shorter = { ...grant, grant: { ...grant.grant, until: until(at + 1000) } };
    await store.putGrant(shorter);
    expect(await store.grants(digest, 'acme')).toEqual([shorter]);
    expect((await store.lease('l1'))?.endsAt).toBe(at + 1000);
  });

  test('opens no lease without its grant, or beyond it', async () => {
    using store = disposable(await filled(make));
    expect(await store.addLease({ ...lease, grant: 'gone' })).toBe(false);
    expect(await store.addLease({ ...lease, endsAt: at + 2 * hour })).toBe(false);
    expect(await store.lease('l1')).toBeUndefined();
  });

  test('renews a live lease only', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    expect(await store.renewLease('l1', { ...term, endsAt: at + 2 * hour }, at)).toBe(false);
    expect(await store.renewLease('l1', { ...term, grant: 'gone' }, at)).toBe(false);
    expect(await store.renewLease('l1', term, at + 59_999)).toBe(true);
    expect(await store.lease('l1')).toEqual({ ...lease, ...term });
    expect(await store.renewLease('l1', { ...term, endsAt: at + hour }, at + 90_000)).toBe(false);
    expect(await store.renewLease('unknown', term, at)).toBe(false);
  });

  test('revokes once; a revoked lease is not renewed', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    expect(await store.revokeLease('l1', at + 5)).toBe(true);
    expect(await store.revokeLease('l1', at + 6)).toBe(false);
    expect(await store.renewLease('l1', term, at + 7)).toBe(false);
    expect((await store.lease('l1'))?.revokedAt).toBe(at + 5);
  });

  test('keeps the first statement that a key was dropped', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.dropLease('l1', 'first', at + 5);
    await store.dropLease('l1', 'second', at + 6);
    expect(await store.lease('l1')).toMatchObject({ droppedAt: at + 5, statement: 'first' });
    expect(await store.renewLease('l1', term, at + 7)).toBe(false);
  });

  test('removing a grant revokes its live leases, and no others', async () => {
    using store = disposable(await filled(make));
    await store.putGrant({ ...grant, id: 'g2' });
    await store.addLease(lease);
    await store.addLease({ ...lease, id: 'ended', endsAt: at + 1 });
    await store.addLease({ ...lease, id: 'other', grant: 'g2' });
    expect(await store.removeGrant('g1', digest, 'other', at + 5)).toBeUndefined();
    expect(await store.removeGrant('g1', digest, 'acme', at + 5)).toBe(1);
    expect((await store.lease('l1'))?.revokedAt).toBe(at + 5);
    expect((await store.lease('ended'))?.revokedAt).toBeUndefined();
    expect((await store.lease('other'))?.revokedAt).toBeUndefined();
  });

  test('lists leases, newest first, up to a count', async () => {
    using store = disposable(await filled(make));
    for (const [i, id] of ['a', 'b', 'c'].entries()) await store.addLease({ ...lease, id, startedAt: at + i });
    expect((await store.leases('acme', 2)).map(({ id }) => id)).toEqual(['c', 'b']);
    expect(await store.leases('other', 2)).toEqual([]);
    expect(await store.leases(undefined, 9)).toHaveLength(3);
  });

  test('notes every decision', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.renewLease('l1', term, at + 1);
    await store.addRefusal({ at: at + 2, code: 'CFN_GRANT_MISSING', digest });
    await store.dropLease('l1', 's', at + 3);
    await store.addLease({ ...lease, id: 'l2' });
    await store.revokeLease('l2', at + 4);
    await store.removeGrant('g1', digest, 'acme', at + 5);
    const decisions = (await store.audit(99)).map(({ decision }) => decision).toReversed();
    const expected = [
      'key-stored',
      'granted',
      'released',
      'renewed',
      'refused',
      'dropped',
      'released',
      'revoked',
      'grant-removed',
    ];
    expect(decisions).toEqual(expected);
    expect((await store.audit(99)).find(({ decision }) => decision === 'released')).toEqual({
      at,
      decision: 'released',
      digest,
      owner: 'acme',
      tenant: 'tenant',
      function: 'ocr',
      version: 'v',
      worker: 'w',
      lease: 'l2',
      grant: 'g1',
    });
  });

  test('keeps the newest refusals only, and all else', async () => {
    using store = disposable(await filled(make));
    for (let i = 0; i < REFUSALS_KEPT + 3; i++) await store.addRefusal({ at: at + i, code: 'CFN_CHALLENGE_INVALID' });
    const audit = await store.audit(2 * REFUSALS_KEPT);
    expect(audit.filter(({ decision }) => decision === 'refused')).toHaveLength(REFUSALS_KEPT);
    expect(audit[0]?.at).toBe(at + REFUSALS_KEPT + 2);
    expect(audit.at(-1)?.decision).toBe('key-stored');
  });
}

const disposable = (store: KeyStore): KeyStore & Disposable =>
  Object.assign(store, { [Symbol.dispose]: () => store.close() });
