import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  CHALLENGE_MS,
  CHALLENGES_MAX,
  kmsNonce,
  type Grant,
  type ReleaseReply,
  type ReleaseRequest,
  type SignedManifest,
} from '../proto/index.ts';
import {
  addOwner,
  auditOf,
  digest,
  grantOf,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  strangePlatform,
} from './test-kms.ts';
import type { Answer, TestKms, TestWorker } from './test-kms.ts';

let kms: TestKms;
let worker: TestWorker;
let use: SignedManifest;
let owner: { token: string; dataKey: Uint8Array };

beforeEach(async () => {
  kms = await startKms();
  worker = await startWorker(kms);
  use = await signFunction();
  owner = await addOwner(kms);
});

const putGrant = (change: Partial<Grant> = {}): Promise<Answer> =>
  kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, change), owner.token);
const send = (request: ReleaseRequest): Promise<Answer> => kms.send('POST', '/v1/release', request);
const ask = async (renew?: string, change: Partial<ReleaseRequest> = {}): Promise<Answer> =>
  send({ ...(await releaseRequest(kms, worker, use, renew)), ...change });
async function expectRefused(answer: Answer | Promise<Answer>, code: string): Promise<void> {
  expect((await answer).body.code).toBe(code);
  expect(await kms.deps.store.leases(undefined, 9)).toEqual([]);
  const entries = [...(await auditOf(kms)), ...(await auditOf(kms, ''))];
  expect(entries).toContainEqual(expect.objectContaining({ decision: 'refused', code }));
}
const leaseOf = (answer: Answer): string => (answer.body as unknown as ReleaseReply).lease;
const status = (lease: string): Promise<Answer> => kms.send('GET', `/v1/leases/${lease}`);

describe('INV-05 release', () => {
  test('gives the data key to an attested worker, under a lease that is in the store', async () => {
    const grant = await putGrant();
    const request = await releaseRequest(kms, worker, use);
    const answer = await send(request);
    const reply = answer.body as unknown as ReleaseReply;
    expect(answer.status).toBe(200);
    expect(reply).toMatchObject({ policy: kms.policyDigest, leaseMs: expect.any(Number) as number });
    expect(reply.leaseMs).toBeGreaterThan(59_000);
    expect(reply.leaseMs).toBeLessThanOrEqual(60_000);
    if (reply.wrappedKey === undefined) throw new Error('no key in the answer');
    expect(Buffer.from(await worker.open(reply.wrappedKey, request.challenge))).toEqual(owner.dataKey);
    expect(await kms.deps.store.lease(reply.lease)).toMatchObject({
      digest,
      owner: 'acme',
      tenant: 'tenant',
      function: 'ocr',
      version: use.version,
      worker: worker.id,
      tee: 'simulated',
      policy: kms.policyDigest,
      grant: grant.body['id'],
    });
    expect((await status(reply.lease)).body).toMatchObject({ live: true, lease: reply.lease });
  });

  test('the wrapped key opens under its own challenge only', async () => {
    await putGrant();
    const reply = (await ask()).body as unknown as ReleaseReply;
    if (reply.wrappedKey === undefined) throw new Error('no key in the answer');
    await expect(worker.open(reply.wrappedKey, 'A'.repeat(43))).rejects.toThrow();
  });

  test('no answer, log or audit entry holds the data key', async () => {
    await putGrant();
    const answer = await ask();
    const everything = JSON.stringify([answer, kms.logs, await auditOf(kms), await auditOf(kms, '')]);
    for (const form of ['hex', 'base64url', 'base64'] as const)
      expect(everything).not.toContain(Buffer.from(owner.dataKey).toString(form));
    expect(JSON.stringify(kms.logs)).not.toContain(leaseOf(answer));
  });

  test('the lease ends with its grant, and with the worker keys, if those end first', async () => {
    await putGrant({ leaseMs: 86_400_000 });
    expect((await ask()).body['leaseMs']).toBeLessThanOrEqual(3_600_000);
    await putGrant({ leaseMs: 86_400_000, until: new Date(kms.deps.now().getTime() + 86_400_000).toISOString() });
    expect((await ask()).body['leaseMs']).toBeLessThanOrEqual(7_200_000);
  });

  describe('refuses', () => {
    test('a challenge that is unknown', async () => {
      await putGrant();
      await expectRefused(
        ask(undefined, { challenge: randomBytes(32).toString('base64url') }),
        'CFN_CHALLENGE_INVALID',
      );
    });

    test('a challenge that was used, even by a call that was refused', async () => {
      const request = await releaseRequest(kms, worker, use);
      await expectRefused(send(request), 'CFN_GRANT_MISSING');
      await putGrant();
      await expectRefused(send(request), 'CFN_CHALLENGE_INVALID');
    });

    test('a challenge that expired', async () => {
      await putGrant();
      const request = await releaseRequest(kms, worker, use);
      kms.clock.offsetMs += CHALLENGE_MS + 1;
      await expectRefused(send(request), 'CFN_CHALLENGE_INVALID');
    });

    test('a challenge that 10,000 newer ones drove out', async () => {
      await putGrant();
      const request = await releaseRequest(kms, worker, use);
      for (let i = 0; i < CHALLENGES_MAX; i++) kms.deps.challenges.issue();
      await expectRefused(send(request), 'CFN_CHALLENGE_INVALID');
    });

    test('evidence for another nonce', async () => {
      await putGrant();
      await expectRefused(ask(undefined, { evidence: await worker.collect(randomBytes(32)) }), 'CFN_NONCE_MISMATCH');
    });

    test('evidence for another challenge of this KMS', async () => {
      await putGrant();
      const other = await releaseRequest(kms, worker, use);
      await expectRefused(ask(undefined, { evidence: other.evidence }), 'CFN_NONCE_MISMATCH');
    });

    test('a wrapping key put in after the evidence was made', async () => {
      await putGrant();
      const thief = await startWorker(kms);
      await expectRefused(ask(undefined, { wrappingKey: thief.wrappingKey }), 'CFN_NONCE_MISMATCH');
    });

    test('a model put in after the evidence was made', async () => {
      await putGrant();
      await expectRefused(ask(undefined, { model: 'e'.repeat(64) }), 'CFN_NONCE_MISMATCH');
    });

    test('a function manifest put in after the evidence was made', async () => {
      await putGrant();
      const other = await signFunction({ vars: { A: '1' } });
      await expectRefused(ask(undefined, { functionManifest: other.jws }), 'CFN_NONCE_MISMATCH');
    });

    test('a nonce rewritten in the evidence', async () => {
      await putGrant();
      const request = await releaseRequest(kms, worker, use);
      const stale = await worker.collect(randomBytes(32));
      const nonce = Buffer.from(
        await kmsNonce(request.challenge, request.wrappingKey, digest, request.functionManifest),
      ).toString('base64url');
      await expectRefused(send({ ...request, evidence: { ...stale, nonce } }), 'CFN_REPORT_DATA_MISMATCH');
    });

    test('a worker with another measurement', async () => {
      await putGrant();
      worker = await startWorker(kms, new Uint8Array(48).fill(0x66));
      await expectRefused(ask(), 'CFN_MEASUREMENT_UNKNOWN');
    });

    test('a worker under another root', async () => {
      await putGrant();
      worker = await startWorker(kms, undefined, await strangePlatform());
      await expectRefused(ask(), 'CFN_CHAIN_UNTRUSTED');
    });

    test('malformed evidence', async () => {
      await putGrant();
      const { evidence, ...rest } = await releaseRequest(kms, worker, use);
      const answer = await kms.send('POST', '/v1/release', { ...rest, evidence: { ...evidence, extra: 1 } });
      expect(answer.body.code).toBe('CFN_EVIDENCE_MALFORMED');
      await expectRefused(ask(undefined, { evidence: { ...evidence, quote: 'AAAA' } }), 'CFN_EVIDENCE_MALFORMED');
    });

    test('a wrapping key that is no usable point', async () => {
      await putGrant();
      worker = { ...worker, wrappingKey: Buffer.alloc(32).toString('base64url') };
      await expectRefused(ask(), 'CFN_INPUT_INVALID');
    });

    test('a use that was never granted, and an unknown model, in the same words', async () => {
      const ungranted = await ask();
      kms = await startKms();
      const unknown = await ask();
      await expectRefused(unknown, 'CFN_GRANT_MISSING');
      expect(unknown).toEqual(ungranted);
    });

    test.each<[string, Partial<Grant>]>([
      ['tenant', { tenant: 'other' }],
      ['function', { function: 'other' }],
      ['author', { author: 'another-author' }],
      ['version', { version: 'e'.repeat(64) }],
    ])('a grant for another %s', async (_name, change) => {
      await putGrant(change);
      await expectRefused(ask(), 'CFN_GRANT_MISSING');
    });

    test('a grant that ended', async () => {
      await putGrant();
      kms.clock.offsetMs += 3_600_001;
      await expectRefused(ask(), 'CFN_GRANT_MISSING');
    });

    test('a manifest that was altered', async () => {
      await putGrant();
      const [header, payload, signature] = use.jws.split('.');
      const manifest = Buffer.from(payload ?? '', 'base64url')
        .toString()
        .replace('"ocr"', '"ocx"');
      use = { ...use, jws: [header, Buffer.from(manifest).toString('base64url'), signature].join('.') };
      await expectRefused(ask(), 'CFN_MANIFEST_ALTERED');
    });

    test('a manifest that does not name the model, or names it as another reference', async () => {
      await putGrant();
      use = await signFunction({ models: [] });
      await expectRefused(ask(), 'CFN_MODEL_UNDECLARED');
      use = await signFunction({ models: [{ binding: 'DETECT', model: 'acme/other@1', digest }] });
      await expectRefused(ask(), 'CFN_GRANT_MISSING');
    });

    test("a grant by an owner who stored another owner's digest", async () => {
      const squatter = await addOwner(kms, 'mallory', 'mallory/m@1');
      await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), squatter.token);
      await expectRefused(ask(), 'CFN_GRANT_MISSING');
    });

    test('a grant that is removed while the release is under way', async () => {
      const { id } = (await putGrant()).body;
      const { store } = kms.deps;
      const addLease: typeof store.addLease = async (lease) => {
        await store.removeGrant(String(id), digest, 'acme', lease.startedAt);
        return store.addLease(lease);
      };
      const slow = await startKms(undefined, { store: { ...store, addLease } });
      const answer = await slow.send('POST', '/v1/release', await releaseRequest(slow, worker, use));
      await expectRefused(answer, 'CFN_GRANT_MISSING');
      expect(answer.body['wrappedKey']).toBeUndefined();
    });
  });

  test('the narrowest grant counts', async () => {
    await putGrant({ leaseMs: 60_000 });
    await putGrant({ leaseMs: 2000, version: use.version });
    await putGrant({ leaseMs: 5000, author: use.author });
    expect((await ask()).body['leaseMs']).toBeLessThanOrEqual(2000);
  });
});

describe('renewal', () => {
  test('extends a live lease after a new appraisal, without a key', async () => {
    await putGrant();
    const lease = leaseOf(await ask());
    kms.clock.offsetMs += 50_000;
    const renewed = await ask(lease);
    expect(renewed.body).toMatchObject({ lease, policy: kms.policyDigest });
    expect(renewed.body['wrappedKey']).toBeUndefined();
    kms.clock.offsetMs += 50_000;
    expect((await status(lease)).body['live']).toBe(true);
    expect((await auditOf(kms))[0]).toMatchObject({ decision: 'renewed', lease });
  });

  test.each<[string, (lease: string) => Promise<unknown> | void]>([
    ['ended', () => void (kms.clock.offsetMs += 60_001)],
    ['was revoked', (lease) => kms.send('DELETE', `/v1/leases/${lease}`, undefined, owner.token)],
    [
      'was dropped',
      async (lease) => kms.send('POST', `/v1/leases/${lease}/dropped`, { statement: await worker.sayDropped(lease) }),
    ],
    ['belongs to another worker', async () => void (worker = await startWorker(kms))],
    ['is for another function version', async () => void (use = await signFunction({ vars: { A: '1' } }))],
  ])('is refused when the lease %s', async (_name, change) => {
    await putGrant();
    const lease = leaseOf(await ask());
    await change(lease);
    expect((await ask(lease)).body.code).toBe('CFN_LEASE_ENDED');
  });

  test("is refused under another owner's grant: the lease stays with the owner who gave it, and ends with that grant", async () => {
    const two = ['mallory/x@1', 'acme/text-detector@1'].map((model, i) => ({ binding: `M${i}`, model, digest }));
    use = await signFunction({ models: two });
    const { id } = (await putGrant()).body;
    const lease = leaseOf(await ask());
    const mallory = await addOwner(kms, 'mallory', 'mallory/x@1');
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { leaseMs: 3_500_000 }), mallory.token);
    expect((await ask(lease)).body.code).toBe('CFN_LEASE_ENDED');
    expect(await kms.deps.store.lease(lease)).toMatchObject({ owner: 'acme', grant: id });
    const removed = await kms.send('DELETE', `/v1/models/${digest}/grants/${String(id)}`, undefined, owner.token);
    expect(removed.body).toEqual({ leasesRevoked: 1 });
  });

  test('is refused for an unknown lease, and without fresh evidence', async () => {
    await putGrant();
    const lease = leaseOf(await ask());
    expect((await ask('unknown')).body.code).toBe('CFN_LEASE_ENDED');
    expect((await ask(lease, { evidence: await worker.collect(randomBytes(32)) })).body.code).toBe(
      'CFN_NONCE_MISMATCH',
    );
  });

  test('is refused when the grant was removed, which revokes at once', async () => {
    const { id } = (await putGrant()).body;
    const lease = leaseOf(await ask());
    const removed = await kms.send('DELETE', `/v1/models/${digest}/grants/${String(id)}`, undefined, owner.token);
    expect(removed.body).toEqual({ leasesRevoked: 1 });
    expect((await status(lease)).body.code).toBe('CFN_LEASE_ENDED');
    expect((await ask(lease)).body.code).toBe('CFN_LEASE_ENDED');
    expect((await ask()).body.code).toBe('CFN_GRANT_MISSING');
  });
});

describe('lease', () => {
  test('is live until its end', async () => {
    await putGrant();
    const lease = leaseOf(await ask());
    kms.clock.offsetMs += 58_000;
    expect((await status(lease)).body['remainingMs']).toBeLessThanOrEqual(2000);
    kms.clock.offsetMs += 2000;
    expect(await status(lease)).toMatchObject({ status: 403, body: { code: 'CFN_LEASE_ENDED' } });
    expect((await status('unknown')).body.code).toBe('CFN_LEASE_ENDED');
  });

  test('ends with the statement of its worker, which the owner can read', async () => {
    await putGrant();
    const lease = leaseOf(await ask());
    const statement = await worker.sayDropped(lease);
    expect((await kms.send('POST', `/v1/leases/${lease}/dropped`, { statement })).status).toBe(200);
    expect((await status(lease)).body.code).toBe('CFN_LEASE_ENDED');
    const { leases } = (await kms.send('GET', '/v1/leases', undefined, owner.token)).body;
    expect(leases).toMatchObject([{ lease, live: false, statement, worker: worker.id, model: digest }]);
  });

  test('takes no statement by another key, of another worker, lease or type', async () => {
    await putGrant();
    const [lease, other] = [leaseOf(await ask()), leaseOf(await ask())];
    const stranger = await startWorker(kms);
    const statements = [
      await worker.sayDropped(lease, { key: stranger.receiptKey }),
      await worker.sayDropped(lease, { worker: stranger.id }),
      await worker.sayDropped(other),
      await worker.sayDropped(lease, { typ: 'JWT' }),
      'not a statement',
    ];
    for (const statement of statements) {
      const answer = await kms.send('POST', `/v1/leases/${lease}/dropped`, { statement });
      expect(answer.body.code).toBe('CFN_RECEIPT_INVALID');
    }
    expect((await status(lease)).body['live']).toBe(true);
    const unknown = { statement: await worker.sayDropped('unknown') };
    expect((await kms.send('POST', '/v1/leases/unknown/dropped', unknown)).body.code).toBe('CFN_LEASE_ENDED');
  });
});
