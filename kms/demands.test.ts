import { beforeEach, describe, expect, test } from 'vitest';
import type { Grant } from '../proto/index.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';
import { unmetDemands } from './demands.ts';
import {
  addOwner,
  digest,
  grantOf,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type Answer,
  type TestKms,
} from './test-kms.ts';

const MRTD = '4d'.repeat(48); // what the workers of test-kms.ts measure to
const OTHER = '00'.repeat(48);

describe('a grant with demands', () => {
  let kms: TestKms;
  let token: string;
  beforeEach(async () => {
    kms = await startKms();
    ({ token } = await addOwner(kms));
  });
  const grant = (change: Partial<Grant>): Promise<Answer> =>
    kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, change), token);
  const release = async (renew?: string): Promise<Answer> => {
    worker ??= await startWorker(kms);
    return kms.send('POST', '/v1/release', await releaseRequest(kms, worker, use, renew));
  };
  let worker: Awaited<ReturnType<typeof startWorker>> | undefined;
  let use: Awaited<ReturnType<typeof signFunction>>;
  beforeEach(async () => {
    worker = undefined;
    use = await signFunction();
  });

  test.each<[string, Partial<Grant>]>([
    ['the TEE kind', { tee: ['tdx', 'simulated'] }],
    ['the GPU', { gpu: ['HOPPER', 'BLACKWELL'] }],
    ['the image', { reference: { mrtd: [OTHER, MRTD] } }],
    ['the image, among values of another TEE kind', { reference: { mrtd: [MRTD], measurement: [OTHER] } }],
  ])('that %s meets is a grant', async (_, change) => {
    await grant(change);
    expect((await release()).status).toBe(200);
  });

  test.each<[string, Partial<Grant>]>([
    ['another TEE kind', { tee: ['tdx', 'snp'] }],
    ['another image', { reference: { mrtd: [OTHER] } }],
    ['another register', { reference: { mrtd: [MRTD], rtmr0: [OTHER] } }],
    ['values of another TEE kind alone', { reference: { measurement: [MRTD] } }],
    ['another GPU', { gpu: ['BLACKWELL'] }],
  ])('for %s releases nothing, and says what the owner demands', async (_, change) => {
    await grant(change);
    const answer = await release();
    expect(answer).toMatchObject({ status: 403, body: { code: 'CFN_GRANT_UNMET' } });
    expect(answer.body['wrappedKey']).toBeUndefined();
    expect(await kms.deps.store.leases(undefined, 9)).toEqual([]);
  });

  test('that are put in later end a lease at its next renewal', async () => {
    await grant({});
    const lease = String((await release()).body['lease']);
    await grant({ tee: ['snp'] });
    expect((await release(lease)).body.code).toBe('CFN_GRANT_UNMET');
  });

  test('is not told of to a function that was granted nothing', async () => {
    await grant({ tee: ['snp'], author: 'another-author' });
    expect((await release()).body.code).toBe('CFN_GRANT_MISSING');
  });

  test.each([
    { reference: {} },
    { reference: { mrtd: [] } },
    { reference: { mrtd: ['00'] } },
    { tee: [] },
    { tee: ['sgx'] },
    { gpu: ['H100'] },
  ])('is refused as %j', async (change) => {
    const answer = await kms.send('PUT', `/v1/models/${digest}/grants`, { ...grantOf(kms), ...change }, token);
    expect(answer.body.code).toBe('CFN_INPUT_INVALID');
  });
});

describe('demands of GPUs and SEV-SNP guests', () => {
  const shown = (tee: 'tdx' | 'snp', families: readonly string[], measurement?: string): AttestationResult =>
    ({
      tee,
      claims: {
        tdx: undefined,
        snp: measurement === undefined ? undefined : { measurement },
        gpus: families.map((family) => ({ family })),
        switches: [],
      },
    }) as unknown as AttestationResult; // of what the verifier says, only this is looked at
  const demanding = (change: Partial<Grant>): Grant => ({
    tenant: 't',
    function: 'f',
    leaseMs: 1000,
    until: '',
    ...change,
  });

  test('every GPU must be of the architecture', () => {
    const hopper = demanding({ gpu: ['HOPPER'] });
    expect(unmetDemands(hopper, shown('snp', ['HOPPER', 'HOPPER']))).toEqual([]);
    expect(unmetDemands(hopper, shown('snp', ['HOPPER', 'BLACKWELL']))).toHaveLength(1);
    expect(unmetDemands(hopper, shown('snp', []))).toHaveLength(1);
  });

  test('a guest must have one of the measurements', () => {
    const reference = demanding({ reference: { measurement: [MRTD], mrtd: [OTHER] } });
    expect(unmetDemands(reference, shown('snp', [], MRTD))).toEqual([]);
    expect(unmetDemands(reference, shown('snp', [], OTHER))).toHaveLength(1);
    expect(unmetDemands(reference, shown('snp', []))).toHaveLength(1);
  });

  test('all that is not met is said', () => {
    const grant = demanding({ tee: ['tdx'], gpu: ['HOPPER'], reference: { measurement: [OTHER] } });
    expect(unmetDemands(grant, shown('snp', [], MRTD))).toHaveLength(3);
  });
});
