import { beforeEach, describe, expect, test } from 'vitest';
import { simulatedPolicy } from '../attestation/insecure/index.ts';
import {
  addOwner,
  auditOf,
  digest,
  grantOf,
  platform,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type Answer,
  type TestKms,
} from './test-kms.ts';

let kms: TestKms;
let acme: string;
let mallory: string;
beforeEach(async () => {
  kms = await startKms();
  acme = (await addOwner(kms)).token;
  mallory = (await addOwner(kms, 'mallory', 'mallory/m@1')).token;
  await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), acme);
});

async function release(mrtd?: Uint8Array): Promise<Answer> {
  const worker = await startWorker(kms, mrtd);
  return kms.send('POST', '/v1/release', await releaseRequest(kms, worker, await signFunction()));
}

describe('INV-22 a namespace', () => {
  test('is not named, seen or changed with the token of another', async () => {
    const lease = String((await release()).body['lease']);
    const [grant] = await kms.deps.store.grants(digest, 'acme');
    const [token] = await kms.deps.store.tokens('acme');
    const calls: [string, string, unknown?][] = [
      ['GET', '/v1/owners'],
      ['PUT', '/v1/owners/acme/quotas', { models: 0, grants: 0, leases: 0, releasesPerMinute: 0 }],
      ['GET', '/v1/keys'],
      ['GET', '/v1/audit'],
      ['GET', '/v1/tokens'],
      ['DELETE', `/v1/tokens/${token?.id}`],
      ['GET', '/v1/models'],
      ['GET', `/v1/models/${digest}/grants`],
      ['DELETE', `/v1/models/${digest}/grants/${grant?.id}`],
      ['GET', '/v1/leases'],
      ['DELETE', `/v1/leases/${lease}`],
    ];
    const answers: Answer[] = [];
    for (const [method, path, body] of calls) answers.push(await kms.send(method, path, body, mallory));
    const said = JSON.stringify(answers);
    for (const secret of ['acme', lease, grant?.id, token?.id, 'text-detector']) expect(said).not.toContain(secret);
    expect(await kms.deps.store.grants(digest, 'acme')).toHaveLength(1);
    expect(await kms.deps.store.tokens('acme')).toHaveLength(1);
    expect((await kms.send('GET', `/v1/leases/${lease}`)).status).toBe(200);
    expect((await kms.send('DELETE', `/v1/models/${digest}`, undefined, mallory)).body).toEqual({ leasesRevoked: 0 });
    expect((await release()).status).toBe(200); // mallory withdrew a record of their own
  });

  test('answers to a name that is there as to one that is not', async () => {
    const guess = (name: string): Promise<Answer> =>
      kms.send('GET', '/v1/models', undefined, `${name}.${'A'.repeat(43)}`);
    expect(await guess('acme')).toEqual(await guess('nobody'));
  });

  test("has an appraisal policy of its own, which counts for its keys and nobody else's", async () => {
    const mrtd = new Uint8Array(48).fill(0x77);
    const policy = await simulatedPolicy(platform, { mrtd });
    expect((await release(mrtd)).body.code).toBe('CFN_MEASUREMENT_UNKNOWN');
    await kms.send('PUT', '/v1/policy', policy, mallory);
    expect((await release(mrtd)).body.code).toBe('CFN_MEASUREMENT_UNKNOWN');
    const set = await kms.send('PUT', '/v1/policy', policy, acme);
    const released = await release(mrtd);
    expect(released.status).toBe(200);
    expect(released.body['policy']).toBe(set.body['policy']);
    expect((await release()).body.code).toBe('CFN_MEASUREMENT_UNKNOWN'); // what the KMS's own policy takes
    expect((await kms.send('GET', '/v1/policy', undefined, acme)).body).toEqual(policy);
    await kms.send('DELETE', '/v1/policy', undefined, acme);
    expect((await release()).status).toBe(200);
    expect((await kms.send('PUT', '/v1/policy', {}, acme)).body.code).toBe('CFN_POLICY_INVALID');
  });

  test('has tokens of its own: made, revoked, and read-only where they say so', async () => {
    const made = (await kms.send('POST', '/v1/tokens', { role: 'admin' }, acme)).body;
    const auditor = String((await kms.send('POST', '/v1/tokens', { role: 'auditor' }, acme)).body['token']);
    for (const path of [
      '/v1/models',
      '/v1/leases',
      '/v1/audit',
      '/v1/keys',
      '/v1/policy',
      `/v1/models/${digest}/grants`,
    ])
      expect((await kms.send('GET', path, undefined, auditor)).status, path).toBe(200);
    const [grant] = await kms.deps.store.grants(digest, 'acme');
    const changes: [string, string, unknown?][] = [
      ['PUT', `/v1/models/${digest}/grants`, grantOf(kms)],
      ['DELETE', `/v1/models/${digest}/grants/${grant?.id}`],
      ['DELETE', `/v1/models/${digest}`],
      ['DELETE', '/v1/leases/x'],
      ['PUT', '/v1/policy', {}],
      ['DELETE', '/v1/policy'],
      ['POST', '/v1/tokens', { role: 'admin' }],
      ['POST', '/v1/keys/rotate'],
    ];
    for (const [method, path, body] of changes)
      expect((await kms.send(method, path, body, auditor)).body.code, `${method} ${path}`).toBe('CFN_TOKEN_SCOPE');
    expect((await kms.send('DELETE', `/v1/tokens/${String(made['id'])}`, undefined, acme)).status).toBe(200);
    expect((await kms.send('GET', '/v1/models', undefined, String(made['token']))).body.code).toBe('CFN_TOKEN_INVALID');
  });

  test('has quotas of its own: one that is used up leaves the others be', async () => {
    const quotas = { models: 1, grants: 1, leases: 1, releasesPerMinute: 2 };
    expect((await kms.send('PUT', '/v1/owners/acme/quotas', quotas, acme)).body.code).toBe('CFN_TOKEN_SCOPE');
    await kms.send('PUT', '/v1/owners/acme/quotas', quotas, kms.admin);
    expect((await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { tenant: 'b' }), acme)).body.code).toBe(
      'CFN_QUOTA_EXCEEDED',
    );
    expect((await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { tenant: 'b' }), mallory)).status).toBe(
      200,
    );
    expect((await release()).status).toBe(200);
    expect((await release()).body.code).toBe('CFN_QUOTA_EXCEEDED');
    expect((await release()).body.code).toBe('CFN_BUSY');
    kms.clock.offsetMs += 60_000;
    expect((await release()).status).toBe(200); // the first lease has ended
  });

  test('has a log of its own, in which nobody else is named', async () => {
    await release();
    const mine = JSON.stringify(await auditOf(kms, 'mallory'));
    for (const word of ['acme', 'text-detector', 'tenant']) expect(mine).not.toContain(word);
    const own = await auditOf(kms, '');
    expect(own.map(({ decision }) => decision)).toEqual(['owner-added', 'owner-added']);
  });
});
