import { expect, test } from 'vitest';
import { RESOURCES_MAX, TOKENS_MAX } from './limits.ts';
import { CfnError, type AuditEntry } from '../proto/index.ts';
import type {
  EndedEarly,
  KeyStore,
  NewLease,
  StoredFunctionSecret,
  StoredGrant,
  StoredModel,
  StoredResource,
} from './store.ts';

const digest = 'd'.repeat(64);
const at = Date.parse('2026-11-01T00:00:00Z');
const hour = 3_600_000;

const model: StoredModel = {
  digest,
  owner: 'acme',
  model: 'acme/m@1',
  wrappedKey: Uint8Array.of(1, 2, 3),
  keyVersion: 1,
  storedAt: at,
};
const resource: StoredResource = {
  owner: 'acme',
  type: 'key',
  tag: 'detector',
  wrapped: Uint8Array.of(7),
  bytes: 32,
  keyVersion: 1,
  terms: { until: '2026-11-02T00:00:00.000Z' },
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
const lease: NewLease = {
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
  keyVersion: 1,
  startedAt: at,
  endsAt: at + 60_000,
};
const term = { grant: 'g1', evidence: 'e2', policy: 'p2', endsAt: at + 90_000 };

export function addOwner(store: KeyStore, name: string): Promise<boolean> {
  return store.addOwner(
    { name, addedAt: at },
    { id: 't1', owner: name, role: 'admin', digest: Uint8Array.of(9), madeAt: at },
    { owner: name, version: 1, wrapped: Uint8Array.of(5), madeAt: at },
  );
}
const entries = async (store: KeyStore, owner = 'acme'): Promise<AuditEntry[]> =>
  (await store.auditPage(owner, 0, 99)).lines.map(({ entry }) => entry);

async function filled(make: () => KeyStore): Promise<KeyStore> {
  const store = make();
  await addOwner(store, 'acme');
  await store.addModel(model);
  await store.putGrant(grant);
  return store;
}

/** What every KeyStore must do. @param make opens an empty store */
export function storeContract(make: () => KeyStore): void {
  test('keeps owners; a name is taken once', async () => {
    using store = disposable(make());
    expect(await addOwner(store, 'acme')).toBe(true);
    expect(await addOwner(store, 'acme')).toBe(false);
    expect(await store.owners()).toEqual([{ name: 'acme', addedAt: at }]);
    expect(await store.tokens('acme')).toMatchObject([{ id: 't1', role: 'admin' }]);
    expect(await store.tokens('other')).toEqual([]);
  });

  test('keeps a secret of each name', async () => {
    using store = disposable(make());
    const secret = { name: 'sealing', publicKey: 'public', wrapped: Uint8Array.of(7) };
    expect(await store.secret('sealing')).toBeUndefined();
    await store.addSecret(secret);
    expect(await store.secret('sealing')).toEqual(secret);
    await expect(store.addSecret(secret)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });

  test('keeps tokens up to a count, and always one that may change things', async () => {
    using store = disposable(await filled(make));
    const token = { id: 't2', owner: 'acme', role: 'auditor', digest: Uint8Array.of(8), madeAt: at } as const;
    await store.addToken(token);
    expect(await store.removeToken('acme', 't1', at)).toBe(false);
    expect(await store.removeToken('other', 't2', at)).toBe(false);
    expect(await store.removeToken('acme', 't2', at)).toBe(true);
    expect(await store.removeToken('acme', 't2', at)).toBe(false);
    for (let i = 1; i < TOKENS_MAX; i++) await store.addToken({ ...token, id: `n${i}` });
    await expect(store.addToken({ ...token, id: 'over' })).rejects.toMatchObject({ code: 'CFN_QUOTA_EXCEEDED' });
  });

  test('rotates a namespace key with all its models and resources, once, and forgets the old one', async () => {
    using store = disposable(await filled(make));
    await addOwner(store, 'other');
    await store.addModel({ ...model, owner: 'other', model: 'other/m@1' });
    const next = { owner: 'acme', version: 2, wrapped: Uint8Array.of(6), madeAt: at + 1 };
    await store.putResource(resource);
    const rewrapResource = ({ wrapped }: StoredResource): Uint8Array => wrapped.map((byte) => byte + 20);
    const rewrap = (row: StoredModel | StoredFunctionSecret): Uint8Array =>
      ('wrappedKey' in row ? row.wrappedKey : row.wrapped).map((byte) => byte + 10);
    const set = { id: 'f'.repeat(64), owner: 'acme', tenant: 't', function: 'f', revision: 'r' };
    const secret = { name: 'A', wrapped: Uint8Array.of(4), keyVersion: 1, author: 'a', leaseMs: 1000, storedAt: at };
    await store.putFunctionSecrets(set, [{ ...secret, id: set.id }]);
    expect(await store.rotateNamespaceKey(next, rewrap, rewrapResource)).toBe(1);
    expect(await store.rotateNamespaceKey(next, rewrap, rewrapResource)).toBeUndefined();
    expect(await store.model(digest, 'acme')).toMatchObject({ wrappedKey: Uint8Array.of(11, 12, 13), keyVersion: 2 });
    expect(await store.model(digest, 'other')).toMatchObject({ wrappedKey: model.wrappedKey, keyVersion: 1 });
    expect(await store.resource(resource)).toMatchObject({ wrapped: Uint8Array.of(27), keyVersion: 2 });
    expect(await store.putResource(resource)).toBe(false);
    const [old, newest] = await store.namespaceKeys('acme');
    expect(old).toMatchObject({ version: 1, wrapped: new Uint8Array(), retiredAt: at + 1 });
    expect(newest).toEqual(next);
    expect(await store.addModel({ ...model, digest: 'e'.repeat(64) })).toBe('stale');
    expect((await store.functionSecrets(set.id))?.secrets).toMatchObject([
      { wrapped: Uint8Array.of(14), keyVersion: 2 },
    ]);
    expect(await store.putFunctionSecrets(set, [{ ...secret, id: set.id }])).toBeUndefined();
  });

  test('keeps a resource until it is replaced or removed, and notes what becomes of it', async () => {
    using store = disposable(await filled(make));
    await addOwner(store, 'other');
    expect(await store.putResource(resource)).toBe(true);
    expect(await store.resource(resource)).toEqual(resource);
    expect(await store.resource({ ...resource, owner: 'other' })).toBeUndefined();
    expect(await store.noteResourceReleased(resource, digest, at)).toBe(true);
    const replaced = { ...resource, wrapped: Uint8Array.of(8), storedAt: at + 1 };
    expect(await store.putResource(replaced)).toBe(true);
    expect(await store.noteResourceReleased(resource, digest, at)).toBe(false);
    expect(await store.resources('acme')).toEqual([replaced]);
    expect(await store.removeResource({ ...resource, owner: 'other' }, at)).toBe(false);
    expect(await store.removeResource(resource, at)).toBe(true);
    expect(await store.removeResource(resource, at)).toBe(false);
    expect(await store.noteResourceReleased(replaced, digest, at)).toBe(false);
    const { lines } = await store.auditPage('acme', 0, 100);
    const noted = lines.flatMap(({ entry }) => (entry.subject === 'key/detector' ? [entry.decision] : []));
    expect(noted).toEqual(['resource-stored', 'resource-released', 'resource-stored', 'resource-removed']);
    for (let i = 0; i < RESOURCES_MAX; i++) await store.putResource({ ...resource, tag: `n${i}` });
    await expect(store.putResource(resource)).rejects.toMatchObject({ code: 'CFN_QUOTA_EXCEEDED' });
  });

  test('a rotation that fails in the middle changes nothing', async () => {
    using store = disposable(await filled(make));
    await store.addModel({ ...model, digest: 'e'.repeat(64) });
    let calls = 0;
    const rewrap = (): Uint8Array => {
      if (calls++ > 0) throw new CfnError('CFN_KEYRING_ALTERED', 'the second does not open');
      return model.wrappedKey;
    };
    const next = { owner: 'acme', version: 2, wrapped: Uint8Array.of(6), madeAt: at };
    await expect(store.rotateNamespaceKey(next, rewrap, () => new Uint8Array())).rejects.toMatchObject({
      code: 'CFN_KEYRING_ALTERED',
    });
    expect(await store.namespaceKeys('acme')).toMatchObject([{ version: 1, wrapped: Uint8Array.of(5) }]);
    expect((await store.models('acme')).map(({ keyVersion }) => keyVersion)).toEqual([1, 1]);
  });

  test('rewraps what is still what it was', async () => {
    using store = disposable(await filled(make));
    const [key] = await store.namespaceKeys('acme');
    if (key === undefined) throw new Error('no key');
    await store.rewrapAll([{ key: { ...key, wrapped: Uint8Array.of(4) }, wrapped: Uint8Array.of(0) }], 2, at);
    expect(await store.namespaceKeys('acme')).toEqual([key]);
    await store.rewrapAll([{ key, wrapped: Uint8Array.of(0) }], 2, at);
    expect(await store.namespaceKeys('acme')).toMatchObject([{ wrapped: Uint8Array.of(0) }]);
  });

  test('holds the quotas of each owner apart', async () => {
    using store = disposable(await filled(make));
    await addOwner(store, 'other');
    expect(await store.setQuotas('acme', { models: 1, grants: 1, leases: 1, releasesPerMinute: 9 }, at)).toBe(true);
    expect(await store.setQuotas('nobody', { models: 1, grants: 1, leases: 1, releasesPerMinute: 9 }, at)).toBe(false);
    const over = { code: 'CFN_QUOTA_EXCEEDED' };
    await expect(store.addModel({ ...model, digest: 'e'.repeat(64) })).rejects.toMatchObject(over);
    await expect(store.putGrant({ ...grant, id: 'g2' })).rejects.toMatchObject(over);
    await store.putGrant(grant); // the same again
    await store.addLease(lease);
    await expect(store.addLease({ ...lease, id: 'l2' })).rejects.toMatchObject(over);
    expect(
      await store.addLease({ ...lease, id: 'l2', startedAt: lease.endsAt, endsAt: lease.endsAt + 1 }),
    ).toBeDefined();
    expect(await store.addModel({ ...model, owner: 'other', model: 'other/m@1' })).toBe('added');
  });

  test('forgets the key of a model that is withdrawn, and ends its leases', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    expect(await store.withdrawModel(digest, 'other', at)).toBeUndefined();
    expect(await store.withdrawModel(digest, 'acme', at + 5)).toBe(1);
    expect(await store.withdrawModel(digest, 'acme', at + 6)).toBe(0);
    expect(await store.model(digest, 'acme')).toMatchObject({ wrappedKey: new Uint8Array(), withdrawnAt: at + 5 });
    expect((await store.lease('l1'))?.revokedAt).toBe(at + 5);
    expect(await store.addLease({ ...lease, id: 'l2' })).toBeUndefined();
    expect(await store.addModel(model)).toBe('present');
  });

  test('ends the leases of a function version that is withdrawn, and opens none', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.addLease({ ...lease, id: 'other', version: 'w' });
    const withdrawal = { version: 'v', author: 'a', statement: 's', at: at + 5 };
    expect(await store.withdrawFunction(withdrawal)).toBe(1);
    expect(await store.withdrawFunction({ ...withdrawal, statement: 'again' })).toBe(0);
    expect(await store.withdrawal('v')).toEqual(withdrawal);
    expect((await store.lease('other'))?.revokedAt).toBeUndefined();
    expect(await store.addLease({ ...lease, id: 'l2' })).toBeUndefined();
    expect(await store.renewLease('l1', term, at + 6)).toBeUndefined();
  });

  test('keeps models by digest and owner; the first record stays', async () => {
    using store = disposable(await filled(make));
    expect(await store.addModel({ ...model, wrappedKey: Uint8Array.of(4) })).toBe('present');
    expect(await store.model(digest, 'acme')).toEqual(model);
    expect(await store.model(digest, 'other')).toBeUndefined();
    await addOwner(store, 'other');
    expect(await store.addModel({ ...model, owner: 'other', model: 'other/m@1' })).toBe('added');
    expect((await store.models('acme')).map((entry) => entry.owner)).toEqual(['acme']);
    expect(await store.models(undefined)).toHaveLength(2);
  });

  test('refuses a model of an unknown owner and a grant of an unknown model', async () => {
    using store = disposable(await filled(make));
    expect(await store.addModel({ ...model, owner: 'nobody' })).toBe('stale');
    await expect(store.putGrant({ ...grant, id: 'g2', owner: 'nobody' })).rejects.toMatchObject({
      code: 'CFN_STORE_FAILED',
    });
  });

  test('replaces a grant, and ends its leases no later than it', async () => {
    using store = disposable(await filled(make));
    expect(await store.addLease(lease)).toBeDefined();
    const shorter = { ...grant, grant: { ...grant.grant, until: until(at + 1000) } };
    await store.putGrant(shorter);
    expect(await store.grants(digest, 'acme')).toEqual([shorter]);
    expect((await store.lease('l1'))?.endsAt).toBe(at + 1000);
  });

  test('opens no lease without its grant, or beyond it', async () => {
    using store = disposable(await filled(make));
    expect(await store.addLease({ ...lease, grant: 'gone' })).toBeUndefined();
    expect(await store.addLease({ ...lease, endsAt: at + 2 * hour })).toBeUndefined();
    expect(await store.lease('l1')).toBeUndefined();
  });

  test('renews a live lease only', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    expect(await store.renewLease('l1', { ...term, endsAt: at + 2 * hour }, at)).toBeUndefined();
    expect(await store.renewLease('l1', { ...term, grant: 'gone' }, at)).toBeUndefined();
    expect(await store.renewLease('l1', term, at + 59_999)).toEqual({ ...lease, ...term, used: 0 });
    expect(await store.lease('l1')).toEqual({ ...lease, ...term, used: 0 });
    expect(await store.renewLease('l1', { ...term, endsAt: at + hour }, at + 90_000)).toBeUndefined();
    expect(await store.renewLease('unknown', term, at)).toBeUndefined();
  });

  test('neither opens nor renews a lease under a grant of another owner, or on another model', async () => {
    using store = disposable(await filled(make));
    await addOwner(store, 'other');
    await store.addModel({ ...model, owner: 'other', model: 'other/m@1' });
    await store.addModel({ ...model, digest: 'e'.repeat(64) });
    await store.putGrant({ ...grant, id: 'others', owner: 'other' });
    await store.putGrant({ ...grant, id: 'next', digest: 'e'.repeat(64) });
    const set = { id: 'f'.repeat(64), owner: 'acme', tenant: 'tenant', function: 'ocr', revision: 'r' };
    const secret = { id: set.id, name: 'A', wrapped: Uint8Array.of(4), keyVersion: 1, author: 'a', leaseMs: 1000 };
    await store.putFunctionSecrets(set, [{ ...secret, storedAt: at }]);
    await store.addLease(lease);
    for (const foreign of ['others', 'next', 'r']) {
      expect(await store.addLease({ ...lease, id: 'l2', grant: foreign })).toBeUndefined();
      expect(await store.renewLease('l1', { ...term, grant: foreign }, at + 1)).toBeUndefined();
    }
    expect(await store.lease('l1')).toMatchObject({ grant: 'g1', endsAt: lease.endsAt });
    expect(await store.addLease({ ...lease, id: 's', digest: set.id, grant: 'r' })).toBeDefined();
  });

  test('revokes once; a revoked lease is not renewed', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    expect(await store.revokeLease('l1', at + 5)).toBe(true);
    expect(await store.revokeLease('l1', at + 6)).toBe(false);
    expect(await store.renewLease('l1', term, at + 7)).toBeUndefined();
    expect((await store.lease('l1'))?.revokedAt).toBe(at + 5);
  });

  test('keeps the first statement that a key was dropped', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.dropLease('l1', 'first', at + 5, undefined);
    await store.dropLease('l1', 'second', at + 6, undefined);
    expect(await store.lease('l1')).toMatchObject({ droppedAt: at + 5, statement: 'first' });
    expect(await store.renewLease('l1', term, at + 7)).toBeUndefined();
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

  const limited = (maxInvocations: number): StoredGrant => ({ ...grant, grant: { ...grant.grant, maxInvocations } });
  const stated = (used: number) => ({ used, statement: `used ${used}` });
  async function limitedStore(maxInvocations: number): Promise<KeyStore> {
    const store = await filled(make);
    await store.putGrant(limited(maxInvocations));
    return store;
  }

  test('INV-24 allows all leases of a grant together no more than its limit', async () => {
    using store = disposable(await limitedStore(20));
    const allowed = async (id: string): Promise<number> => (await store.addLease({ ...lease, id }))?.allowed ?? 0;
    expect(await allowed('l1')).toBe(3); // an eighth of 20
    let sum = 3;
    for (let i = 2; sum < 20; i++) sum += await allowed(`l${i}`);
    expect(sum).toBe(20);
    await expect(store.addLease({ ...lease, id: 'late' })).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_WAITING' });
    const later = { id: 'later', startedAt: at + 60_000, endsAt: at + 90_000 };
    // The leases have ended without a word: what they held is lost.
    await expect(store.addLease({ ...lease, ...later })).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_SPENT' });
    expect(await store.count('g1', at + 60_000)).toEqual({ used: 0, taken: 20, outstanding: 0 });
    await store.putGrant(limited(21));
    expect((await store.addLease({ ...lease, ...later }))?.allowed).toBe(1);
  });

  test('INV-24 gives a lease more as it is used, and takes back what its worker signs that it did not use', async () => {
    using store = disposable(await limitedStore(8));
    await store.addLease(lease);
    expect(await store.renewLease('l1', term, at + 1, stated(1))).toMatchObject({
      allowed: 2,
      used: 1,
      usage: 'used 1',
    });
    expect(await store.renewLease('l1', term, at + 2, stated(1))).toMatchObject({ allowed: 2 }); // enough for now
    expect(await store.renewLease('l1', term, at + 3, stated(2))).toMatchObject({ allowed: 3, used: 2 });
    expect(await store.count('g1', at + 3)).toEqual({ used: 2, taken: 3, outstanding: 1 });
    await store.dropLease('l1', 's', at + 4, 2);
    await store.dropLease('l1', 's', at + 4, 0);
    expect(await store.count('g1', at + 4)).toEqual({ used: 2, taken: 2, outstanding: 0 });
    await store.addLease({ ...lease, id: 'l2' });
    await store.dropLease('l2', 's', at + 4, undefined); // says nothing of its use: all of it
    expect(await store.count('g1', at + 4)).toEqual({ used: 3, taken: 3, outstanding: 0 });
    await store.addLease({ ...lease, id: 'l3' });
    await store.dropLease('l3', 's', at + 4, 99);
    expect(await store.count('g1', at + 4)).toEqual({ used: 4, taken: 4, outstanding: 0 });
  });

  test('INV-24 takes no word for less than was used before, or more than was allowed', async () => {
    using store = disposable(await limitedStore(80));
    await store.addLease(lease);
    await store.renewLease('l1', term, at + 1, stated(5));
    for (const used of [4, 99])
      await expect(store.renewLease('l1', term, at + 2, stated(used))).rejects.toMatchObject({
        code: 'CFN_RECEIPT_INVALID',
      });
    expect(await store.lease('l1')).toMatchObject({ used: 5, usage: 'used 5' });
  });

  test('INV-24 a limit set later ends leases without one; one that is lifted goes with the next renewal', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.renewLease('l1', term, at + 1, stated(7));
    expect(await store.count('g1', at + 1)).toEqual({ used: 7, taken: 7, outstanding: 0 });
    await store.putGrant(limited(100));
    expect((await store.lease('l1'))?.revokedAt).toBe(at);
    expect(await store.addLease({ ...lease, id: 'l2' })).toMatchObject({ allowed: 12 }); // an eighth of 93
    await store.putGrant({ ...grant, id: 'g2' });
    expect(await store.renewLease('l2', { ...term, grant: 'g2' }, at + 2)).toBeUndefined(); // counted under g1
    await store.putGrant(grant);
    expect((await store.renewLease('l2', term, at + 3, stated(1)))?.allowed).toBeUndefined();
    expect(await store.count('g1', at + 3)).toEqual({ used: 8, taken: 8, outstanding: 0 });
    await store.putGrant({ ...limited(3), id: 'g3' });
    expect(await store.renewLease('l2', { ...term, grant: 'g3' }, at + 4)).toBeUndefined();
  });

  test('INV-24 a limit set later counts what was used before, also what workers state after', async () => {
    using store = disposable(await filled(make));
    await store.addLease(lease);
    await store.renewLease('l1', term, at + 1, stated(3));
    await store.putGrant({ ...limited(8), grantedAt: at + 2 });
    await store.dropLease('l1', 's', at + 3, 10);
    expect(await store.count('g1', at + 3)).toEqual({ used: 10, taken: 10, outstanding: 0 });
    const late = store.addLease({ ...lease, id: 'l2', startedAt: at + 4 });
    await expect(late).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_SPENT' });
    await store.putGrant({ ...limited(18), grantedAt: at + 5 });
    expect((await store.addLease({ ...lease, id: 'l3', startedAt: at + 6 }))?.allowed).toBe(1); // an eighth of 8
  });

  test('INV-24 a grant made anew counts anew, whatever the leases of the one before say, and whenever', async () => {
    using store = disposable(await limitedStore(80));
    for (const id of ['l1', 'l2', 'ended'])
      await store.addLease({ ...lease, id, ...(id === 'ended' && { endsAt: at + 1 }) });
    await store.removeGrant('g1', digest, 'acme', at + 2);
    await store.dropLease('l1', 's', at + 3, 0); // while there is none
    expect(await store.count('g1', at + 3)).toEqual({ used: 0, taken: 0, outstanding: 0 });
    await store.putGrant({ ...limited(8), grantedAt: at + 4 });
    for (const id of ['l2', 'ended']) await store.dropLease(id, 's', at + 5, 0);
    expect(await store.count('g1', at + 5)).toEqual({ used: 0, taken: 0, outstanding: 0 });
    // Also where the clock was set back meanwhile: what is taken is taken.
    expect((await store.addLease({ ...lease, id: 'l3', startedAt: at + 3 }))?.allowed).toBe(1);
    expect(await store.count('g1', at + 5)).toEqual({ used: 0, taken: 1, outstanding: 1 });
  });

  test('tells of each lease that ends early, when that is on the disk', async () => {
    using store = disposable(await filled(make));
    const told: EndedEarly[] = [];
    store.watchEnds(({ id, worker, endsAt, revokedAt }) =>
      told.push({ id, worker, endsAt, ...(revokedAt !== undefined && { revokedAt }) }),
    );
    await store.addLease(lease);
    const { worker } = lease;
    await store.putGrant({ ...grant, grant: { ...grant.grant, until: until(at + 1000) } });
    expect(told).toEqual([{ id: 'l1', worker, endsAt: at + 1000 }]);
    await store.putGrant({ ...grant, grant: { ...grant.grant, until: until(at + 2000) } });
    await store.revokeLease('l1', at + 5);
    await store.revokeLease('l1', at + 5);
    expect(told.slice(1)).toEqual([{ id: 'l1', worker, endsAt: at + 1000, revokedAt: at + 5 }]);
    await store.addLease({ ...lease, id: 'l2', endsAt: at + 2000 });
    await store.withdrawModel(digest, 'acme', at + 6);
    expect(told.slice(2)).toMatchObject([{ id: 'l2', revokedAt: at + 6 }]);
    expect(await store.receiptKeyOf(worker, at + 7)).toBeUndefined();
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
    await store.addAudit('acme', { at: until(at + 2), decision: 'refused', code: 'CFN_GRANT_MISSING', digest });
    await store.dropLease('l1', 's', at + 3, undefined);
    await store.addLease({ ...lease, id: 'l2' });
    await store.revokeLease('l2', at + 4);
    await store.removeGrant('g1', digest, 'acme', at + 5);
    const decisions = (await entries(store)).map(({ decision }) => decision);
    const expected = [
      'owner-added',
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
    expect((await entries(store)).find(({ decision }) => decision === 'released')).toEqual({
      at: until(at),
      decision: 'released',
      digest,
      tenant: 'tenant',
      function: 'ocr',
      version: 'v',
      worker: 'w',
      lease: 'l1',
      grant: 'g1',
    });
  });
}

const disposable = (store: KeyStore): KeyStore & Disposable =>
  Object.assign(store, { [Symbol.dispose]: () => store.close() });
