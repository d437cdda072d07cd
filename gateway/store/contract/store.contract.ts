import { expect, test } from 'vitest';
import type { Receipt } from '../../../proto/index.ts';
import type { Store } from '../store.ts';

const at = '2026-11-01T00:00:00.000Z';
const hex = (digit: string): string => digit.repeat(64);

export function receiptOf(id: string, change: Partial<Receipt> = {}): Receipt {
  return {
    format: 'cfn/receipt/v1',
    id,
    issuedAt: at,
    worker: hex('a'),
    tee: 'simulated',
    evidence: hex('e'),
    function: { tenant: 'acme', name: 'echo', version: hex('1') },
    models: [],
    request: { digest: hex('2'), bytes: 10 },
    response: { digest: hex('3'), bytes: 20, status: 200 },
    outcome: 'ok',
    usage: { cpuMs: 1.5, wallMs: 2, engineMs: 0.5, engineCalls: 1 },
    egress: [],
    wipe: { isolateDisposed: true, sandboxBytesOverwritten: 1, engineBytesOverwritten: 1, agentBytesOverwritten: 1 },
    sequence: 1,
    previous: '',
    ...change,
  };
}

/** What every implementation of {@link Store} does. `open` opens the same state again after a close. */
export function storeContract(open: () => Store | Promise<Store>): void {
  const version = (digit: string, name = 'echo') => ({
    tenant: 'acme',
    name,
    version: hex(digit),
    jws: `jws-${digit}`,
    bundle: new Uint8Array([1, 2, 3]),
  });

  test('holds all that it acknowledged after being opened again', async () => {
    const first = await open();
    await first.addTenant({ name: 'acme', createdAt: at });
    await first.addModel({ model: 'acme/m@1', digest: hex('4'), createdAt: at }, new Uint8Array([7, 0, 255]));
    await first.addVersion(version('1'), at);
    await first.addReceipts([{ jws: 'r1', receipt: receiptOf('1'.repeat(32)) }], 7);
    await first.addEvidence(hex('e'), '{"a":1}');
    await first.addWorkerAddress('127.0.0.1:1');
    await first.close();

    const again = await open();
    expect(await again.hasTenant('acme')).toBe(true);
    expect(await again.model('acme/m@1')).toEqual({ digest: hex('4'), manifest: new Uint8Array([7, 0, 255]) });
    expect(await again.version(hex('1'))).toEqual(version('1'));
    expect(await again.currentVersion('acme', 'echo')).toMatchObject({ version: hex('1') });
    expect(await again.receipt('1'.repeat(32))).toBe('r1');
    expect(await again.evidence(hex('e'))).toBe('{"a":1}');
    expect(await again.workerAddresses()).toEqual(['127.0.0.1:1']);
    await again.close();
  });

  test('refuses a tenant twice, and other bytes under a model reference', async () => {
    const store = await open();
    await store.addTenant({ name: 'acme', createdAt: at });
    await expect(store.addTenant({ name: 'acme', createdAt: at })).rejects.toMatchObject({ code: 'CFN_CONFLICT' });
    const record = { model: 'acme/m@1', digest: hex('4'), createdAt: at };
    expect(await store.addModel(record, new Uint8Array([1]))).toBe(true);
    expect(await store.addModel(record, new Uint8Array([1]))).toBe(false);
    await expect(store.addModel({ ...record, digest: hex('5') }, new Uint8Array([2]))).rejects.toMatchObject({
      code: 'CFN_CONFLICT',
    });
    expect(await store.models()).toEqual([record]);
    await store.addModel({ ...record, model: 'acme2/m@1' }, new Uint8Array([1]));
    expect(await store.models('acme')).toEqual([record]);
    expect(await store.models('acm')).toEqual([]);
    await store.close();
  });

  test('the newest deployment is current, older versions stay', async () => {
    const store = await open();
    expect(await store.addVersion(version('1'), at)).toBe(true);
    expect(await store.addVersion(version('2'), at)).toBe(true);
    expect(await store.currentVersion('acme', 'echo')).toMatchObject({ version: hex('2') });
    expect(await store.addVersion(version('1'), at)).toBe(false);
    expect(await store.currentVersion('acme', 'echo')).toMatchObject({ version: hex('1') });
    expect(await store.version(hex('2'))).toBeDefined();
    await store.addVersion(version('3', 'other'), at);
    expect((await store.functions('acme')).map((it) => it.name)).toEqual(['echo', 'other']);
    expect(await store.functions('nobody')).toEqual([]);
    await store.close();
  });

  const id = (digit: string): string => digit.repeat(32);
  const entry = (digit: string, change: Partial<Receipt> = {}) => ({
    jws: `r${digit}`,
    receipt: receiptOf(id(digit), { sequence: Number(digit), ...change }),
  });
  const all = { fromHour: 0, toHour: 1_000, limit: 100 };

  test('counts a request once, and sums usage by function, tenant and model, in integers', async () => {
    const store = await open();
    const models = ['acme/a@1', 'acme/a@1', 'other/b@2'].map((model, i) => ({
      binding: `M${i}`,
      model,
      digest: hex('4'),
      policy: hex('5'),
      usage: { engineMs: 0.1, engineCalls: 2 },
    }));
    const egress = [{ host: 'example.org', calls: 1, bytesSent: 5, bytesReceived: 6 }];
    const usage = { cpuMs: 0.1, wallMs: 2, engineMs: 0.3, engineCalls: 6 };
    const one = entry('1', { models, egress, usage });
    const two = entry('2', { models, usage, outcome: 'CFN_FUNCTION_THREW' });
    expect(await store.addReceipts([one, two, { ...one, jws: 'other' }], 7)).toBe(2);
    expect(await store.addReceipts([one], 8)).toBe(0);
    const foreign = { tenant: 'other', name: 'echo', version: hex('1') };
    await store.addReceipts([entry('3', { models: models.slice(0, 1), usage, function: foreign })], 8);
    expect(await store.receipt(id('1'))).toBe('r1');
    const counted = { engineCalls: 12, engineMicroseconds: 600, cpuMicroseconds: 200 };
    const bytes = { requestBytes: 20, responseBytes: 40, egressBytes: 11 };
    expect(await store.usage({ ...all, by: 'function', tenant: 'acme' })).toEqual([
      { subject: 'acme/echo', requests: 2, failed: 1, ...counted, ...bytes },
    ]);
    expect(await store.usage({ ...all, by: 'tenant', toHour: 8 })).toEqual([
      { subject: 'acme', requests: 2, failed: 1, ...counted, ...bytes },
    ]);
    expect(await store.usage({ ...all, by: 'model' })).toEqual([
      { subject: 'acme/a@1', requests: 3, failed: 1, engineCalls: 10, engineMicroseconds: 500 },
      { subject: 'other/b@2', requests: 2, failed: 1, engineCalls: 4, engineMicroseconds: 200 },
    ]);
    // What is its own, whoever used it, and what it used of others.
    expect(await store.usage({ ...all, by: 'model', tenant: 'other' })).toEqual([
      { subject: 'acme/a@1', requests: 1, failed: 0, engineCalls: 2, engineMicroseconds: 100 },
      { subject: 'other/b@2', requests: 2, failed: 1, engineCalls: 4, engineMicroseconds: 200 },
    ]);
    expect(await store.usage({ ...all, by: 'model', tenant: 'nobody' })).toEqual([]);
    expect(await store.usage({ ...all, by: 'tenant', after: 'acme' })).toMatchObject([{ subject: 'other' }]);
    expect(await store.usage({ ...all, by: 'tenant', limit: 1 })).toMatchObject([{ subject: 'acme' }]);
    expect(await store.usage({ ...all, by: 'function', fromHour: 9 })).toEqual([]);
    await store.close();
  });

  test('a refusal of an unknown version has no subject', async () => {
    const store = await open();
    await store.addReceipts([entry('1', { function: { tenant: '', name: '', version: hex('1') } })], 7);
    for (const by of ['function', 'tenant'] as const)
      expect(await store.usage({ ...all, by })).toMatchObject([{ subject: '', requests: 1 }]);
    await store.close();
  });

  test('gives the chain of one worker in order', async () => {
    const store = await open();
    await store.addReceipts([entry('3'), entry('1'), entry('2', { worker: hex('b') })], 7);
    await store.addReceipts([entry('5')], 9);
    expect(await store.receiptsOfWorker(hex('a'), 0, 10)).toEqual(['r1', 'r3', 'r5']);
    expect(await store.receiptsOfWorker(hex('a'), 2, 1)).toEqual(['r3']);
    await store.close();
  });

  test('INV-43 seals an hour once, with all that is in it, and adds nothing to it later', async () => {
    const store = await open();
    await store.addReceipts([entry('2'), entry('1')], 7);
    await store.addReceipts([entry('3')], 9);
    expect(await store.unsealedHours(9)).toEqual([7]);
    expect(await store.receiptsOfHour(7, '', 10)).toEqual([
      { id: id('1'), tenant: 'acme', jws: 'r1' },
      { id: id('2'), tenant: 'acme', jws: 'r2' },
    ]);
    expect(await store.receiptsOfHour(7, id('1'), 10)).toMatchObject([{ jws: 'r2' }]);
    const blocks = new Uint8Array([0, 255]);
    const batch = { hour: 7, size: 2, jws: 'b7', blocks };
    expect(await store.addBatch({ ...batch, size: 1 }, undefined)).toBe(false); // one came meanwhile
    expect(await store.addBatch(batch, 6)).toBe(false); // another gateway's view
    expect(await store.addBatch(batch, undefined)).toBe(true);
    expect(await store.addBatch({ ...batch, jws: 'again' }, undefined)).toBe(false);
    expect(await store.addBatch({ ...batch, jws: 'again' }, 7)).toBe(false);

    expect(await store.addReceipts([entry('4')], 7)).toBe(1); // late
    expect(await store.hourOfReceipt(id('4'))).toBe(8);
    expect(await store.hourOfReceipt(id('9'))).toBeUndefined();
    expect(await store.unsealedHours(100)).toEqual([8, 9]);
    expect(await store.addBatch({ hour: 8, size: 1, jws: 'b8', blocks }, 7)).toBe(true);
    await store.close();

    const again = await open();
    expect(await again.newestBatch()).toEqual({ hour: 8, size: 1, jws: 'b8' });
    expect(await again.batch(7)).toEqual(batch);
    expect(await again.batch(9)).toBeUndefined();
    expect(await again.batches(0, 10)).toMatchObject([{ jws: 'b7' }, { jws: 'b8' }]);
    expect(await again.batches(7, 10)).toMatchObject([{ jws: 'b8' }]);
    await again.close();
  });

  test('keeps what the operator said last of each subject', async () => {
    const first = await open();
    await first.setConsent('acme/m@1', true);
    await first.setConsent('acme', false);
    await first.setConsent('acme/m@1', false);
    await first.setConsent('other', true);
    await first.close();
    const store = await open();
    expect(await store.consents(['acme/m@1', 'other', 'nobody'])).toEqual(
      new Map([
        ['acme/m@1', false],
        ['other', true],
      ]),
    );
    expect((await store.consents()).size).toBe(3);
    await store.close();
  });

  test('keeps API keys, each found by its id and removed for its tenant alone', async () => {
    const first = await open();
    await first.addTenant({ name: 'acme', createdAt: at });
    const key = {
      id: '1'.repeat(16),
      name: 'ci',
      role: 'owner',
      tenant: 'acme',
      createdAt: at,
      digest: new Uint8Array([1, 2]),
    };
    const operators = {
      id: '2'.repeat(16),
      name: 'ops',
      role: 'operator',
      createdAt: at,
      expiresAt: at,
      digest: new Uint8Array([3]),
    };
    await first.addKey(key);
    await first.addKey(operators);
    await first.keyUsed(key.id, at);
    await first.keyUsed('3'.repeat(16), at);
    await first.close();
    const store = await open();
    expect(await store.key(key.id)).toEqual({ ...key, usedAt: at });
    expect(await store.key(operators.id)).toEqual(operators);
    expect(await store.keys('acme')).toEqual([{ ...key, usedAt: at }]);
    expect((await store.keys()).map(({ id }) => id)).toEqual([key.id, operators.id]);
    expect(await store.removeKey(key.id, 'other')).toBe(false);
    expect(await store.removeKey(operators.id, 'acme')).toBe(false);
    expect(await store.removeKey(key.id, 'acme')).toBe(true);
    expect(await store.removeKey(operators.id)).toBe(true);
    expect(await store.key(key.id)).toBeUndefined();
    await store.close();
  });

  test('keeps the limits of tenants that exist', async () => {
    const first = await open();
    await first.addTenant({ name: 'acme', createdAt: at });
    await first.addTenant({ name: 'zoo', createdAt: at });
    await first.setLimits('acme', '{"a":1}');
    await first.setLimits('acme', '{"a":2}');
    await expect(first.setLimits('nobody', '{}')).rejects.toMatchObject({ code: 'CFN_TENANT_NOT_FOUND' });
    await first.close();
    const store = await open();
    expect(await store.limits('acme')).toBe('{"a":2}');
    expect(await store.limits('zoo')).toBeUndefined();
    expect(await store.tenants()).toEqual([
      { name: 'acme', createdAt: at },
      { name: 'zoo', createdAt: at },
    ]);
    await store.close();
  });

  test('sums what a tenant used since a time', async () => {
    const store = await open();
    const receipt = (digit: string, tenant = 'acme') => ({
      jws: digit,
      receipt: receiptOf(digit.repeat(32), { function: { tenant, name: 'echo', version: hex('1') } }),
    });
    const hour = Date.parse(at) / 3_600_000;
    await store.addReceipts([receipt('1')], hour - 1);
    await store.addReceipts([receipt('2')], hour);
    await store.addReceipts([receipt('3'), receipt('4', 'zoo')], hour + 24);
    expect(await store.usedSince('acme', at)).toEqual({ requests: 2, engineMs: 1, bytes: 60 });
    expect(await store.usedSince('nobody', at)).toEqual({ requests: 0, engineMs: 0, bytes: 0 });
    await store.close();
  });

  test('remembers which versions a function had deployed, and which it has', async () => {
    const first = await open();
    await first.addVersion(version('1'), at);
    expect(await first.uploadVersion(version('2'), at)).toBe(true);
    expect(await first.uploadVersion(version('2'), at)).toBe(false);
    expect((await first.currentVersion('acme', 'echo'))?.version).toBe(hex('1'));
    const split = [
      { version: hex('1'), percent: 10 },
      { version: hex('2'), percent: 90 },
    ];
    const made = { tenant: 'acme', name: 'echo', versions: split, at, cause: 'versions', message: 'why' } as const;
    expect(await first.addDeployment(made, 1)).toEqual({ ...made, id: 2 });
    await first.close();
    const store = await open();
    expect(await store.currentDeployment('acme', 'echo')).toEqual({ ...made, id: 2 });
    expect((await store.deployments('acme', 'echo')).map(({ id, cause }) => [id, cause])).toEqual([
      [2, 'versions'],
      [1, 'deploy'],
    ]);
    expect(await store.versions('acme', 'echo')).toEqual([
      { version: hex('2'), uploadedAt: at },
      { version: hex('1'), uploadedAt: at },
    ]);
    expect((await store.currentVersion('acme', 'echo'))?.version).toBe(hex('2')); // which gets most
    expect(await store.versions('other', 'echo')).toEqual([]);
    await store.close();
  });

  test('a deployment that another was faster than, or of what is not there, changes nothing', async () => {
    const store = await open();
    await store.addVersion(version('1'), at);
    await store.addVersion(version('2'), at);
    await store.addVersion(version('3', 'other'), at);
    const whole = (digit: string) =>
      ({
        tenant: 'acme',
        name: 'echo',
        versions: [{ version: hex(digit), percent: 100 }],
        at,
        cause: 'rollback',
        message: '',
      }) as const;
    await expect(store.addDeployment(whole('1'), 1)).rejects.toMatchObject({ code: 'CFN_CONFLICT' });
    await expect(store.addDeployment(whole('9'))).rejects.toMatchObject({ code: 'CFN_FUNCTION_NOT_FOUND' });
    await expect(store.addDeployment(whole('3'))).rejects.toMatchObject({ code: 'CFN_FUNCTION_NOT_FOUND' });
    expect((await store.currentDeployment('acme', 'echo'))?.id).toBe(2);
    expect((await store.addDeployment(whole('1'), 2)).id).toBe(3);
    await store.close();
  });

  test('says undefined for what it does not hold', async () => {
    const store = await open();
    expect(await store.hasTenant('acme')).toBe(false);
    expect(await store.model('acme/m@1')).toBeUndefined();
    expect(await store.version(hex('1'))).toBeUndefined();
    expect(await store.currentVersion('acme', 'echo')).toBeUndefined();
    expect(await store.currentDeployment('acme', 'echo')).toBeUndefined();
    expect(await store.receipt('1'.repeat(32))).toBeUndefined();
    expect(await store.evidence(hex('e'))).toBeUndefined();
    await store.close();
  });

  test('a call after the close is refused', async () => {
    const store = await open();
    await store.close();
    await expect(store.hasTenant('acme')).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
}
