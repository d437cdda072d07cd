import { afterAll, beforeAll, expect, test } from 'vitest';
import { appraisalFixture } from '../appraisal.fixture.ts';
import { parsePolicy, policyDigest, type AppraisalPolicy } from './index.ts';
import { INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT } from './trust-anchors.ts';

let policy: AppraisalPolicy;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ policy, close } = await appraisalFixture());
});
afterAll(() => close());

const invalid = expect.objectContaining({ code: 'CFN_POLICY_INVALID' }) as Error;

test('survives JSON, and every field is required', () => {
  const json: unknown = JSON.parse(JSON.stringify(policy));
  expect(parsePolicy(json)).toEqual(policy);
  for (const field of Object.keys(policy)) {
    expect(() => parsePolicy({ ...policy, [field]: undefined })).toThrow(invalid);
  }
  for (const [part, fields] of Object.entries({ tee: policy.tee, gpu: policy.gpu })) {
    for (const field of Object.keys(fields)) {
      expect(() => parsePolicy({ ...policy, [part]: { ...fields, [field]: undefined } })).toThrow(invalid);
    }
  }
});

test('refuses unknown fields, reasons that are none, and endorsements that it cannot check yet', () => {
  expect(() => parsePolicy({ ...policy, also: 1 })).toThrow(invalid);
  expect(() => parsePolicy({ ...policy, rtmr3: { notChecked: '' } })).toThrow(invalid);
  expect(() => parsePolicy({ ...policy, mrtd: { notChecked: 'MRTD is never left out' } })).toThrow(invalid);
  expect(() => parsePolicy({ ...policy, mrtd: ['AB'.repeat(48)] })).toThrow(invalid);
  expect(() => parsePolicy({ ...policy, tee: { ...policy.tee, tcb: ['UpToDate'] } })).toThrow(invalid);
  expect(() => parsePolicy(null)).toThrow(invalid);
});

test('INV-04 real and simulated do not mix', () => {
  const { qeIdentity, tcb, revocation } = policy.tee;
  const real = { kind: 'tdx', qeIdentity, tcb, revocation };
  expect(() => parsePolicy({ ...policy, tee: real })).toThrow(invalid); // with a simulated GPU
  expect(() => parsePolicy({ ...policy, tee: real, gpu: { ...policy.gpu, root: { kind: 'nvidia' } } })).not.toThrow();
  expect(() => parsePolicy({ ...policy, gpu: { ...policy.gpu, root: { kind: 'nvidia' } } })).toThrow(invalid);
  expect(() => parsePolicy({ ...policy, tee: { ...real, root: '00'.repeat(32) } })).toThrow(invalid);
  for (const root of [INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT]) {
    expect(() => parsePolicy({ ...policy, tee: { ...policy.tee, root } })).toThrow(invalid);
  }
});

test('the digest follows the meaning, not the order of fields', async () => {
  const digest = await policyDigest(policy);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  const reversed = parsePolicy(Object.fromEntries(Object.entries(policy).toReversed()));
  expect(await policyDigest(reversed)).toBe(digest);
  expect(await policyDigest({ ...policy, name: 'other' })).not.toBe(digest);
});
