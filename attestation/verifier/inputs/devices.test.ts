import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { defaultPolicy } from '../../../cli/conformance/policies.ts';
import { parsePemChain } from '../../evidence/x509.ts';
import { appraiseInputs } from './appraise-inputs.ts';
import { gather } from './gather.ts';

const read = (path: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../vectors/nvidia/${path}`, import.meta.url)));

async function appraise(inputs: readonly Uint8Array[], now: string) {
  const options = { policy: defaultPolicy(gather(inputs)), now: new Date(now) };
  const { accepted, findings } = await appraiseInputs(inputs, options);
  const failures = findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));
  return { accepted, failures, findings };
}

const H100 = [
  'reports/h100-550.90.07.bin',
  'chains/h100-550.90.07.pem',
  'rims/NV_GPU_DRIVER_GH100_550.90.07.xml',
  'rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml',
].map(read);
const H100_AT = '2025-10-24T12:00:00Z';

test('a chain whose certificates come one by one, and a report that has none', async () => {
  const [report = new Uint8Array(), chain, ...rims] = H100;
  const certificates = parsePemChain(new TextDecoder().decode(chain)).map(({ der }) => der);
  expect(await appraise([report, ...certificates.toReversed(), ...rims], H100_AT)).toMatchObject({ accepted: true });
  const broken = certificates.filter((_, depth) => depth !== 2);
  expect((await appraise([report, ...broken, ...rims], H100_AT)).failures).toContain('certificate/untrusted-root');
  const { failures, findings } = await appraise([report, ...rims], H100_AT);
  expect(failures).toContain('certificate/missing-intermediate');
  expect(findings.map(({ check }) => check)).not.toContain('switch identities');
});

test('certificates: what was supplied about their revocation counts', async () => {
  const chain = H100.slice(1, 2);
  const good = ['l2', 'l3', 'l4'].map((level) => read(`ocsp/gpu_certificate_${level}.der`));
  expect(await appraise([...chain, ...good], '2025-08-21T12:00:00Z')).toMatchObject({ accepted: true });
  expect(new Set((await appraise([...chain, ...good], H100_AT)).failures)).toEqual(new Set(['revocation/stale']));
  const other = read('ocsp/gpu_driver_rim_l4.der');
  expect((await appraise([...chain, other], H100_AT)).failures).toEqual(['revocation/wrong-issuer']);
});
