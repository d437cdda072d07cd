import { readFileSync } from 'node:fs';
import { parseCrl } from '../attestation/evidence/crl.ts';
import { parseSnpReport } from '../attestation/evidence/snp.ts';
import { parseCertificate, parsePemChain } from '../attestation/evidence/x509.ts';
import { isReportSigned } from '../attestation/verifier/amd/signature.ts';
import { makeReport, makeSyntheticAmd, TURIN_LEAF } from '../attestation/verifier/amd/synthetic.fixture.ts';
import { verifySnpReport, type SnpEvidence } from '../attestation/verifier/amd/verify.ts';
import { Findings } from '../attestation/verifier/findings.ts';
import { median } from './measure.ts';
import type { Row } from './row.ts';

const ROUNDS = 300;
const WARM_UP = 100;
const GOAL_MS = 1.5;

type Run = () => Promise<void>;

/**
 * SEV-SNP, from bytes to findings, with chain, CRL and report signature. Beside it, as a floor, the one P-384 verification by WebCrypto
 * that no SNP verifier can do without.
 */
export async function snpRows(): Promise<Row[]> {
  const strangers = await syntheticStrangers(ROUNDS + WARM_UP);
  const known = recordedMilan();
  return [
    await row('SNP report, chip and CRL never seen', (round) => strangers[round] ?? known),
    await row('SNP report, chain and CRL verified before', () => known),
  ];
}

async function row(name: string, machine: (round: number) => Run): Promise<Row> {
  const floor = oneSignature();
  const ours: number[] = [];
  const floors: number[] = [];
  for (let round = 0; round < ROUNDS + WARM_UP; round++) {
    const pair = [await time(machine(round)), await time(floor)] as const;
    if (round < WARM_UP) continue;
    ours.push(pair[0]);
    floors.push(pair[1]);
  }
  return {
    row: name,
    unit: 'ms',
    ours: median(ours),
    reference: median(floors),
    ratio: median(ours.map((value, round) => value / (floors[round] ?? Number.NaN))),
    goal: `≤ ${GOAL_MS} ms`,
    met: median(ours) <= GOAL_MS,
  };
}

async function time(run: Run): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}

/** Machines of one synthetic AMD, each with a VCEK and a CRL that no other has. ASK and ARK are those of the product. */
async function syntheticStrangers(count: number): Promise<Run[]> {
  const amd = await makeSyntheticAmd('Turin');
  const options = { now: new Date('2026-06-01T00:00:00Z'), roots: amd.roots };
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const leaf = await amd.issueLeaf(TURIN_LEAF);
      const crl = await amd.issueCrl({ serials: [index] });
      const certificates = () => [leaf.der, amd.ask, amd.ark].map((der) => parseCertificate(der));
      return verification(await makeReport(leaf.key), certificates, crl, options);
    }),
  );
}

function recordedMilan(): Run {
  const leaf = read('certs/milan-v5-gcp-x25519.vcek.der');
  const chain = new TextDecoder().decode(read('chains/ask_ark_milan.pem'));
  const certificates = () => [parseCertificate(leaf), ...parsePemChain(chain)];
  const options = { now: new Date('2026-01-15T00:00:00Z') };
  return verification(read('reports/milan-v5-gcp-x25519.bin'), certificates, read('crls/milan.crl.der'), options);
}

function verification(
  report: Uint8Array,
  certificates: () => SnpEvidence['certificates'],
  crl: Uint8Array,
  options: Pick<SnpEvidence, 'now' | 'roots'>,
): Run {
  return async () => {
    const findings = new Findings();
    const evidence = { report, certificates: certificates(), crls: [parseCrl(crl)], ...options };
    await verifySnpReport({ ...evidence, revocation: 'required' }, findings);
    if (findings.failures.length > 0) throw new Error(findings.failures[0]?.detail);
  };
}

function oneSignature(): Run {
  const report = parseSnpReport(read('reports/milan-v5-gcp-x25519.bin'));
  const { publicKey } = parseCertificate(read('certs/milan-v5-gcp-x25519.vcek.der'));
  return async () => {
    if (!(await isReportSigned(report, publicKey))) throw new Error('the vector is not signed');
  };
}

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../attestation/vectors/snp/${path}`, import.meta.url)));
}
