import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { toHex } from '../../proto/index.ts';
import { parseNvidiaReport } from './nvidia.ts';
import { decodeNvidiaReport, parseNvidiaEvidenceJson } from './nvidia-evidence-json.ts';
import { parsePemChain } from './x509.ts';

const read = (path: string): Buffer => readFileSync(new URL(`../vectors/nvidia/${path}`, import.meta.url));
const REPORT = new Uint8Array(read('reports/h100-550.90.07.bin'));
const BASE64 = Buffer.from(REPORT).toString('base64');
const PEM = read('chains/h100-550.90.07.pem').toString();

describe('parseNvidiaEvidenceJson', () => {
  test.each([
    ['gpus', 8, 'gpu'],
    ['switches', 4, 'switch'],
  ])('reads the %s of a machine', (file, count, kind) => {
    const devices = parseNvidiaEvidenceJson(read(`box-590.12/${file}.json`).toString());
    expect(devices).toHaveLength(count);
    for (const { report, certificates, nonce } of devices) {
      expect(parseNvidiaReport(report)).toMatchObject({ kind, nonce });
      expect(parsePemChain(certificates)).toHaveLength(5);
    }
  });

  test('reads each form of the document', () => {
    const device = { evidence: BASE64, certificate: PEM, arch: 'HOPPER' };
    for (const json of [device, [device], { nonce: 'a', evidence_list: [device] }, { evidences: [device] }]) {
      const [found] = parseNvidiaEvidenceJson(JSON.stringify(json));
      expect(found).toEqual({ arch: 'HOPPER', report: REPORT, certificates: PEM, nonce: undefined });
    }
    const wrapped = Buffer.from(PEM).toString('base64');
    expect(
      parseNvidiaEvidenceJson(JSON.stringify([{ evidence: toHex(REPORT), certificate: wrapped }]))[0],
    ).toMatchObject({
      report: REPORT,
      certificates: PEM,
    });
  });

  test.each([
    ['no JSON', '{', 'parse/json'],
    ['an empty list', '[]', 'parse/empty'],
    ['a number', '1', 'parse/empty'],
    ['a list that is none', '{"evidence_list":1}', 'parse/empty'],
    ['a device that is none', '[1]', 'parse/json'],
    ['a device without certificate', `[{"evidence":"${BASE64}"}]`, 'parse/json'],
    ['a member twice', `[{"evidence":"a","evidence":"b","certificate":"c"}]`, 'parse/duplicate'],
    ['a report that is no base64', `[{"evidence":"-","certificate":"-----BEGIN"}]`, 'parse/base64'],
    ['too many devices', JSON.stringify(Array.from({ length: 65 }, () => 1)), 'parse/length'],
  ])('refuses %s', (_name, text, reason) => {
    expect(() => parseNvidiaEvidenceJson(text)).toThrow(expect.objectContaining({ reason }));
  });
});

test('decodeNvidiaReport takes hexadecimal and base64, with line breaks', () => {
  const lines = (text: string): string => `${text.replaceAll(/(.{64})/g, '$1\n')}\n`;
  for (const text of [toHex(REPORT), toHex(REPORT).toUpperCase(), lines(toHex(REPORT)), BASE64, lines(BASE64)])
    expect(decodeNvidiaReport(text)).toEqual(REPORT);
});
