import { expect, test } from 'vitest';
import { signedFunction } from './testkit.ts';
import { consentSubjectSchema, operatorConsent, type ConsentDefault } from './consent.ts';

const models = [{ binding: 'M', model: 'owner/m@1', digest: 'd'.repeat(64) }];
const { manifest } = await signedFunction({ tenant: 'acme', name: 'echo', models });

async function isAdmitted(otherwise: ConsentDefault, said: Readonly<Record<string, boolean>>): Promise<boolean> {
  const store = { consents: async () => new Map(Object.entries(said)) };
  return operatorConsent(store, otherwise)
    .demand(manifest)
    .then(
      () => true,
      (error: { code?: string }) => {
        expect(error.code).toBe('CFN_OPERATOR_CONSENT_MISSING');
        return false;
      },
    );
}

test('INV-26 where the operator admits all, what was dismissed is refused', async () => {
  expect(await isAdmitted('all', {})).toBe(true);
  for (const subject of ['acme', 'acme/echo', 'owner', 'owner/m@1'])
    expect(await isAdmitted('all', { [subject]: false }), subject).toBe(false);
  expect(await isAdmitted('all', { acme: false, 'acme/echo': true })).toBe(true); // the narrower word counts
});

test('INV-26 where the operator admits what is listed, function and model must be', async () => {
  expect(await isAdmitted('listed', {})).toBe(false);
  expect(await isAdmitted('listed', { 'acme/echo': true })).toBe(false);
  expect(await isAdmitted('listed', { 'owner/m@1': true })).toBe(false);
  expect(await isAdmitted('listed', { 'acme/echo': true, 'owner/m@1': true })).toBe(true);
  expect(await isAdmitted('listed', { acme: true, owner: true })).toBe(true);
  expect(await isAdmitted('listed', { acme: true, owner: true, 'owner/m@1': false })).toBe(false);
});

test('a subject is an owner, a function or a model, and nothing else', () => {
  for (const good of ['acme', 'acme/echo', 'owner/m@1'])
    expect(consentSubjectSchema.safeParse(good).success, good).toBe(true);
  for (const bad of ['', '*', 'Acme', 'acme/', 'acme/echo/', 'acme/echo@', 'acme/echo '])
    expect(consentSubjectSchema.safeParse(bad).success, bad).toBe(false);
});
