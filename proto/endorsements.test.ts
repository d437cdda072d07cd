import { expect, test } from 'vitest';
import { endorsementsSchema, NO_ENDORSEMENTS, type Endorsements } from './endorsements.ts';

const intel = {
  tcbInfo: '{"tcbInfo":{},"signature":"00"}',
  tcbInfoIssuerChain: '-----BEGIN CERTIFICATE-----',
  qeIdentity: '{}',
  qeIdentityIssuerChain: 'pem',
  pckCrl: 'MAA',
  pckCrlIssuerChain: 'pem',
  rootCrl: 'MAA',
};
const full: Endorsements = {
  intel: [intel],
  amd: { certificates: ['MAA'], crls: ['MAA'] },
  nvidia: { rims: ['<r/>'], ocsp: ['MAA'], crls: ['MAA'] },
};

test('none, and some of each, are endorsements', () => {
  expect(endorsementsSchema.parse(NO_ENDORSEMENTS)).toEqual(NO_ENDORSEMENTS);
  expect(endorsementsSchema.parse(full)).toEqual(full);
});

test.each([
  ['nothing', undefined],
  ['a vendor left out', { intel: [], amd: full.amd }],
  ['another vendor', { ...full, arm: [] }],
  ['a list left out', { ...full, amd: { certificates: [] } }],
  ['collateral in parts', { ...full, intel: [{ ...intel, rootCrl: undefined }] }],
  ['an empty text', { ...full, intel: [{ ...intel, tcbInfo: '' }] }],
  ['padded base64', { ...full, nvidia: { ...full.nvidia, ocsp: ['MA=='] } }],
  ['too many of a kind', { ...full, amd: { ...full.amd, crls: Array.from({ length: 5 }, () => 'MAA') } }],
  ['one that is too long', { ...full, nvidia: { ...full.nvidia, rims: ['x'.repeat(128 * 1024 + 1)] } }],
])('%s are none', (_, value) => {
  expect(endorsementsSchema.safeParse(value).success).toBe(false);
});
