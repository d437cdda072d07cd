import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { appraisalFixture } from '../../appraisal.fixture.ts';
import { INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT } from '../trust-anchors.ts';
import { parsePolicy, parseWorkerPolicy, policyDigest, type AppraisalPolicy } from './policy.ts';

type Json = Record<string, unknown>;

let policy: AppraisalPolicy;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ policy, close } = await appraisalFixture());
});
afterAll(() => close());

const READY_MADE = ['production-tdx-h100', 'production-snp-h100', 'cpu-only', 'simulated'] as const;
const readyMade = (name: string): Json =>
  parse(readFileSync(new URL(`../../policies/${name}.toml`, import.meta.url), 'utf8')) as Json;
const invalid = expect.objectContaining({ code: 'CFN_POLICY_INVALID' }) as Error;

/** The value with the member at a path removed or replaced. */
function without(value: unknown, path: readonly string[], replacement?: unknown): Json {
  const [name = '', ...rest] = path;
  const members = value as Json;
  if (rest.length > 0) return { ...members, [name]: without(members[name], rest, replacement) };
  const { [name]: _, ...others } = members;
  return replacement === undefined ? others : { ...others, [name]: replacement };
}

/** Paths of all members, those of lists and of reasons aside. */
function paths(value: unknown, above: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([name, member]) => [[...above, name], ...paths(member, [...above, name])]);
}

describe.each(READY_MADE)('the ready-made policy %s', (name) => {
  test('is one for workers, and every field is required', () => {
    const value = readyMade(name);
    expect(parseWorkerPolicy(value)).toEqual(value);
    expect(value['name']).toBe(name);
    // Without the reason, an empty table of least levels is left, which accepts no product.
    const required = paths(value).filter((path) => !path.at(-2)?.endsWith('TcbMin'));
    for (const path of required) expect(() => parsePolicy(without(value, path)), path.join('.')).toThrow(invalid);
  });

  test('takes no field that it does not know', () => {
    const value = readyMade(name);
    for (const path of [[], ...paths(value)].filter(
      (at) => typeof at.reduce<unknown>((part, step) => (part as Json)[step], value) === 'object',
    )) {
      if (Array.isArray(path.reduce<unknown>((part, step) => (part as Json)[step], value))) continue;
      expect(() => parsePolicy(without(value, [...path, 'also'], 1)), path.join('.')).toThrow(invalid);
    }
  });

  test('accepts nothing before its measurements are filled in', () => {
    const { tee } = parseWorkerPolicy(readyMade(name));
    if (tee.kind === 'none') throw new Error('a worker has a TEE');
    expect(tee.kind === 'snp' ? tee.measurement : tee.mrtd).toEqual([]);
  });
});

test('the simulated platform’s own policy survives JSON, and every field is required', () => {
  expect(parseWorkerPolicy(JSON.parse(JSON.stringify(policy)))).toEqual(policy);
  const fields = paths(policy).filter((path) => !path.includes('values'));
  for (const path of fields) expect(() => parsePolicy(without(policy, path)), path.join('.')).toThrow(invalid);
});

test('a wrong field is named, also inside of an alternative', () => {
  const message = (value: unknown): string => {
    try {
      parsePolicy(value);
    } catch (error) {
      return (error as Error).message;
    }
    return 'accepted';
  };
  expect(message({ ...policy, also: 1 })).toBe('policy: Unrecognized key: "also"');
  expect(message(without(policy, ['tee', 'mrtd'], ['AB']))).toMatch(/^tee\.mrtd\.0: expected 96 lower-case/);
  expect(message(without(policy, ['tee', 'rtmr3'], { notChecked: '' }))).toMatch(/^tee\.rtmr3\.notChecked: /);
  expect(message(without(policy, ['gpu', 'countMin'], 0))).toMatch(/^gpu\.countMin: /);
  expect(message(without(policy, ['tee', 'kind'], 'sgx'))).toMatch(/^tee\.kind: /);
  expect(message(null)).toMatch(/^policy: /);
  expect(message(without(policy, ['gpu', 'driver'], { minimum: 'newest' }))).toMatch(/^gpu\.driver\.minimum: /);
  expect(message(without(policy, ['gpu', 'countMin'], 2))).toMatch(/^gpu\.countMax: /);
  const issuer = 'https://nras.attestation.nvidia.com';
  for (const jwks of ['{}', 'none', '{"keys":[]}'])
    expect(message(without(policy, ['token'], { issuer, keys: { jwks } }))).toMatch(/^token\.keys\.jwks: /);
  expect(message({ ...policy, format: 'cfn/appraisal-policy/v1' })).toMatch(/^format: /);
});

describe('INV-04 real and simulated do not mix', () => {
  const real = ['production-tdx-h100', 'production-snp-h100'] as const;

  test.each(real)('%s cannot name a simulated root anywhere', (name) => {
    const value = readyMade(name);
    const root = { kind: 'simulated', root: '00'.repeat(32) };
    expect(() => parsePolicy(without(value, ['gpu', 'root'], root))).toThrow(invalid);
    expect(() => parsePolicy(without(value, ['tee', 'root'], '00'.repeat(32)))).toThrow(invalid);
    expect(() => parsePolicy(without(value, ['tee', 'kind'], 'simulated'))).toThrow(invalid);
  });

  test.each(real)('%s cannot become one for simulated evidence, whatever else is changed in it', (name) => {
    const { tee, gpu } = policy;
    expect(() => parsePolicy({ ...policy, name })).toThrow(invalid);
    expect(() => parsePolicy({ ...readyMade(name), tee, gpu })).toThrow(invalid);
    const none = { kind: 'none', notRequired: 'a test' };
    expect(() => parsePolicy({ ...readyMade(name), tee: none, gpu })).toThrow(invalid);
    expect(() => parsePolicy({ ...readyMade(name), tee, gpu: { notRequired: 'a test' } })).toThrow(invalid);
  });

  test('a simulated policy cannot name a vendor’s root, nor a real GPU', () => {
    for (const root of [INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT]) {
      expect(() => parsePolicy(without(policy, ['tee', 'root'], root))).toThrow(invalid);
      expect(() => parsePolicy(without(policy, ['gpu', 'root'], { kind: 'simulated', root }))).toThrow(invalid);
    }
    expect(() => parsePolicy(without(policy, ['gpu', 'root'], { kind: 'nvidia' }))).toThrow(invalid);
  });
});

describe('what a policy for workers cannot leave out', () => {
  const tdx = readyMade('production-tdx-h100');
  const snp = readyMade('production-snp-h100');
  const cannot = (value: Json): void => {
    expect(() => parsePolicy(value)).not.toThrow();
    expect(() => parseWorkerPolicy(value)).toThrow(invalid);
  };
  const reason = { notChecked: 'a test' };

  test('a TEE', () => cannot(without(readyMade('cpu-only'), ['tee'], { kind: 'none', notRequired: 'a test' })));
  test('what runs in it', () => {
    cannot(without(tdx, ['tee', 'mrtd'], reason));
    cannot(without(snp, ['tee', 'measurement'], reason));
  });
  test('that debugging is off', () => cannot(without(snp, ['tee', 'guestPolicy', 'debug'], reason)));
  test('nor demand what its evidence has no place for', () => {
    cannot(
      without(tdx, ['tpm'], { attestationKey: 'endorsed', hardware: 'required', secureBoot: 'required', pcrs: {} }),
    );
    cannot(without(tdx, ['token'], { issuer: 'https://nras.attestation.nvidia.com', keys: 'certified' }));
  });
  test('the binding of its GPUs', () => {
    cannot(without(tdx, ['binding'], 'same-nonce'));
    cannot(without(tdx, ['binding'], { notRequired: 'a test' }));
  });
});

test('the digest follows the meaning, not the order of fields', async () => {
  const digest = await policyDigest(policy);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  const reversed = parsePolicy(Object.fromEntries(Object.entries(policy).toReversed()));
  expect(await policyDigest(reversed)).toBe(digest);
  expect(await policyDigest({ ...policy, name: 'other' })).not.toBe(digest);
});
