import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../../../proto/index.ts';
import { gather } from './gather.ts';
import { parseProviderReport } from './provider-report.ts';

const vectors = new URL('../../vectors/', import.meta.url);
const read = (name: string) => new Uint8Array(readFileSync(new URL(name, vectors)));
const quote = read('tdx/quotes/v4-phala-b0c06f.bin');
const other = read('tdx/quotes/v5-go-tdx-guest-90c06f.bin');
const report = read('snp/reports/milan-v2-trustee.bin');
const device = {
  arch: 'HOPPER',
  evidence: Buffer.from(read('nvidia/reports/h100-550.90.07.bin')).toString('base64'),
  certificate: Buffer.from(read('nvidia/chains/h100-550.90.07.pem')).toString('base64'),
};
const payload = { nonce: '00'.repeat(32), arch: 'HOPPER', evidence_list: [device] };
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

const counts = (json: unknown) => {
  const { tdxQuotes, snpReports, devices, leftAside } = gather([utf8(JSON.stringify(json))]);
  return { tdx: tdxQuotes.length, snp: snpReports.length, devices: devices.length, leftAside };
};

describe('providers’ reports', () => {
  test.each<[string, unknown, object]>([
    ['a quote in hexadecimal', { quote: toHex(quote) }, { tdx: 1 }],
    ['a quote with 0x', { quote: `0x${toHex(quote).toUpperCase()}` }, { tdx: 1 }],
    ['a quote in base64', { quote: base64(quote) }, { tdx: 1 }],
    ['a quote in base64url', { quote: Buffer.from(quote).toString('base64url') }, { tdx: 1 }],
    ['an SEV-SNP report', { attestation_report: base64(report) }, { snp: 1 }],
    [
      'quote and payload as text, the quote twice',
      {
        intel_quote: toHex(quote),
        quote: toHex(quote),
        nvidia_payload: JSON.stringify(payload),
        signing_address: '0x',
      },
      { tdx: 1, devices: 1, leftAside: ['signing_address'] },
    ],
    ['a payload as object', { intel_quote: toHex(quote), nvidia_payload: payload }, { tdx: 1, devices: 1 }],
    [
      'a gateway and a model server',
      {
        gateway_attestation: { intel_quote: toHex(other) },
        model_attestations: [{ intel_quote: toHex(quote), nvidia_payload: payload }],
      },
      { tdx: 2, devices: 1 },
    ],
    [
      'instances',
      { evidence: [{ quote: base64(quote), gpu_evidence: [device], instance_id: 'a' }], failed_instance_ids: [] },
      { tdx: 1, devices: 1 },
    ],
    [
      'a machine that stands twice',
      { intel_quote: toHex(quote), all_attestations: [{ intel_quote: toHex(quote) }] },
      { tdx: 1 },
    ],
  ])('%s', (_name, json, expected) => {
    expect(counts(json)).toMatchObject({ tdx: 0, snp: 0, devices: 0, ...expected });
  });

  test.each<[string, unknown]>([
    ['a quote that is none', { quote: 'hello, world' }],
    ['another thing for a quote', { quote: base64(read('snp/certs/milan-v2-trustee.vcek.der')) }],
    ['no evidence', { gateway_attestation: {} }],
    ['an empty quote', { quote: '' }],
    ['GPU evidence without a chain', { intel_quote: toHex(quote), gpu_evidence: [{ evidence: device.evidence }] }],
    ['more machines than are taken', { evidence: Array.from({ length: 9 }, () => ({ quote: base64(quote) })) }],
  ])('refused: %s', (_name, json) => {
    expect(() => counts(json)).toThrow(expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }) as Error);
  });

  test('refused: a member twice, of which the last one would count', () => {
    const text = `{"quote":"${toHex(quote)}","quote":"${toHex(other)}"}`;
    expect(() => parseProviderReport(text)).toThrow(expect.objectContaining({ reason: 'parse/duplicate' }) as Error);
  });
});
