import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { CfnError, fromHex, toHex } from '../../proto/index.ts';
import { parseIntelCollateral, writeIntelCollateral } from './intel-collateral.ts';
import { parseQeIdentity, parseTcbInfo } from './intel-tcb.ts';

const text = readFileSync(new URL('../vectors/tdx/collateral/b0c06f-2025-06.json', import.meta.url), 'utf8');
const members = JSON.parse(text) as Record<string, string>;
const member = (name: string): string => members[name] ?? '';
const refused = (run: () => unknown, reason: string) => expect(run).toThrow(expect.objectContaining({ reason }));
const parse = (changed: object) => parseIntelCollateral(JSON.stringify({ ...members, ...changed }));

describe('parseIntelCollateral', () => {
  test('keeps the signed texts as they are', () => {
    const { tcbInfo, qeIdentity } = parseIntelCollateral(text);
    expect(tcbInfo.text).toBe(member('tcb_info'));
    expect(toHex(tcbInfo.signature)).toBe(member('tcb_info_signature'));
    expect(qeIdentity.text).toBe(member('qe_identity'));
  });

  test('cuts them from response bodies, wherever the signature stands, without writing them anew', () => {
    const signature = member('tcb_info_signature').toUpperCase();
    const odd = member('tcb_info').replace('{"id":"TDX"', '{ "id" : "\\u0054DX"'); // would change when written anew
    for (const body of [
      `{"tcbInfo":${odd},"signature":"${signature}"}`,
      ` { "signature": "${signature}", "tcbInfo" : ${odd} }\n`,
    ]) {
      const { tcbInfo } = parse({ tcb_info: body, tcb_info_signature: undefined });
      expect(tcbInfo.text).toBe(odd);
      expect(toHex(tcbInfo.signature)).toBe(signature.toLowerCase());
    }
  });

  test('reads what it writes', () => {
    const body = (name: string, key: string) =>
      `{"${name}":${member(key)},"signature":"${member(`${key}_signature`)}"}`;
    const written = writeIntelCollateral({
      tcbInfo: body('tcbInfo', 'tcb_info'),
      qeIdentity: body('enclaveIdentity', 'qe_identity'),
      tcbInfoIssuerChain: member('tcb_info_issuer_chain'),
      qeIdentityIssuerChain: member('qe_identity_issuer_chain'),
      pckCrlIssuerChain: member('pck_crl_issuer_chain'),
      pckCrl: fromHex(member('pck_crl')),
      rootCaCrl: fromHex(member('root_ca_crl')),
    });
    expect(parseIntelCollateral(written)).toEqual(parseIntelCollateral(text));
  });

  test.each([
    ['tcb_info', 'collateral/missing'],
    ['tcb_info_issuer_chain', 'collateral/missing'],
    ['qe_identity', 'collateral/missing'],
    ['qe_identity_issuer_chain', 'collateral/missing'],
    ['pck_crl', 'revocation/missing'],
    ['pck_crl_issuer_chain', 'revocation/missing'],
    ['root_ca_crl', 'revocation/missing'],
    ['tcb_info_signature', 'collateral/missing'],
    ['qe_identity_signature', 'collateral/missing'],
  ])('refuses a document without %s', (name, reason) => {
    refused(() => parse({ [name]: undefined }), reason);
    if (!name.endsWith('_signature')) refused(() => parse({ [name]: '' }), reason);
    refused(() => parse({ [name]: 1 }), 'parse/json');
  });

  test.each([
    ['no JSON', '{', 'parse/json'],
    ['an array', '[]', 'parse/json'],
    ['a member twice', text.replace('{', '{"tcb_info":"",'), 'parse/duplicate'],
    ['too much', ' '.repeat(4 * 1024 * 1024 + 1), 'parse/length'],
  ])('refuses %s', (_name, document, reason) => {
    refused(() => parseIntelCollateral(document), reason);
  });

  test('refuses parts that are broken', () => {
    refused(() => parse({ pck_crl: 'zz' }), 'parse/json');
    refused(() => parse({ pck_crl: '30' }), 'parse/der');
    refused(() => parse({ tcb_info_signature: '00' }), 'collateral/tcb-info-signature');
    refused(() => parse({ qe_identity_signature: '00' }), 'collateral/qe-identity-signature');
    refused(() => parse({ tcb_info_issuer_chain: 'none' }), 'parse/pem');
    refused(() => parse({ tcb_info: ' '.repeat(512 * 1024 + 1) }), 'parse/length');
  });

  test('any change gives collateral or a refusal, never another error', () => {
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 3 }), (at, patch) => {
        try {
          parseIntelCollateral(text.slice(0, at) + patch + text.slice(at + patch.length));
        } catch (error) {
          expect(error).toBeInstanceOf(CfnError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('content', () => {
  const tcb = JSON.parse(member('tcb_info')) as Record<string, unknown>;
  const qe = JSON.parse(member('qe_identity')) as Record<string, unknown>;
  const tcbInfo = (changed: object) => parseTcbInfo(JSON.stringify({ ...tcb, ...changed }));

  test('takes members that Intel may add', () => {
    expect(tcbInfo({ more: [1] })).toEqual(parseTcbInfo(member('tcb_info')));
    expect(parseQeIdentity(JSON.stringify({ ...qe, more: 1 }))).toEqual(parseQeIdentity(member('qe_identity')));
  });

  test.each<[string, object, string]>([
    ['of SGX', { id: 'SGX' }, 'collateral/wrong-id'],
    ['of nothing', { id: undefined }, 'collateral/wrong-id'],
    ['of version 2', { version: 2 }, 'collateral/wrong-version'],
    ['with another way to compare', { tcbType: 1 }, 'collateral/wrong-version'],
    ['without levels', { tcbLevels: [] }, 'parse/json'],
    ['with a date that is none', { nextUpdate: '2025-13-01T00:00:00Z' }, 'parse/json'],
    ['with a date without zone', { nextUpdate: '2025-12-01T00:00:00' }, 'parse/json'],
    ['with a short FMSPC', { fmspc: '00' }, 'parse/json'],
    ['with an SVN above 255', { tdxModuleIdentities: [{ ...identity(), tcbLevels: [levelOf(256)] }] }, 'parse/json'],
    [
      'with an unknown status',
      { tdxModuleIdentities: [{ ...identity(), tcbLevels: [levelOf(1, 'Fine')] }] },
      'parse/json',
    ],
  ])('refuses a TCB info %s', (_name, changed, reason) => {
    refused(() => tcbInfo(changed), reason);
  });

  test('refuses a QE identity of another enclave, and what is no object', () => {
    refused(() => parseQeIdentity(JSON.stringify({ ...qe, id: 'QE' })), 'collateral/wrong-id');
    refused(() => parseQeIdentity(JSON.stringify({ ...qe, version: 1 })), 'collateral/wrong-version');
    for (const broken of ['', 'null', '[]', '1', '{']) {
      expect(() => parseQeIdentity(broken)).toThrow(CfnError);
      expect(() => parseTcbInfo(broken)).toThrow(CfnError);
    }
  });
});

function identity(): object {
  return { id: 'TDX_01', mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'FF'.repeat(8) };
}
function levelOf(isvsvn: number, tcbStatus = 'UpToDate'): object {
  return { tcb: { isvsvn }, tcbDate: '2025-01-01T00:00:00Z', tcbStatus };
}
