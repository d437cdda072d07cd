import { readFileSync } from 'node:fs';
import { parseCrl } from '../attestation/evidence/crl.ts';
import { parseCertificate, parsePemChain } from '../attestation/evidence/x509.ts';
import { makeReport, makeSyntheticAmd, TURIN_LEAF } from '../attestation/verifier/amd/synthetic.fixture.ts';
import { verifySnpReport, type SnpEvidence } from '../attestation/verifier/amd/verify.ts';
import { Findings } from '../attestation/verifier/findings.ts';
import { median } from './measure.ts';
import type { Row } from './row.ts';

const ROUNDS = 300;
const WARM_UP = 100;
const GOAL_MS = 1.5;

/** SEV-SNP: parsing included, from bytes to findings; chain, CRL and report signature verified. */
export async function snpRows(): Promise<Row[]> {
  const machines = await strangers(ROUNDS + WARM_UP);
  const recorded = recordedMilan();
  return [
    await row('SNP, chip, ASK and CRL never seen', (round) => machines[round] ?? recorded),
    await row('SNP, chain and CRL seen before', () => recorded),
  ];
}

type Machine = () => Promise<void>;

async function row(name: string, machine: (round: number) => Machine): Promise<Row> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS + WARM_UP; round++) {
    const run = machine(round);
    const began = performance.now();
    await run();
    if (round >= WARM_UP) times.push(performance.now() - began);
  }
  const ours = median(times);
  return { row: name, unit: 'ms', ours, goal: `≤ ${GOAL_MS} ms`, met: ours <= GOAL_MS };
}

/** Machines of one synthetic AMD, each with certificates and a CRL that no other has, so that nothing remembered helps. */
async function strangers(count: number): Promise<Machine[]> {
  const amd = await makeSyntheticAmd('Turin');
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const leaf = await amd.issueLeaf(TURIN_LEAF);
      const ask = await amd.issueAsk({ serial: 0x100000 + index });
      const crl = await amd.issueCrl({ serials: [index] });
      return machine(
        await makeReport(leaf.key),
        () => [leaf.der, ask, amd.ark].map((der) => parseCertificate(der)),
        crl,
        {
          now: new Date('2026-06-01T00:00:00Z'),
          roots: amd.roots,
        },
      );
    }),
  );
}

function recordedMilan(): Machine {
  const read = (path: string): Uint8Array =>
    new Uint8Array(readFileSync(new URL(`../attestation/vectors/snp/${path}`, import.meta.url)));
  const leaf = read('certs/milan-v5-gcp-x25519.vcek.der');
  const chain = new TextDecoder().decode(read('chains/ask_ark_milan.pem'));
  return machine(
    read('reports/milan-v5-gcp-x25519.bin'),
    () => [parseCertificate(leaf), ...parsePemChain(chain)],
    read('crls/milan.crl.der'),
    { now: new Date('2026-01-15T00:00:00Z') },
  );
}

function machine(
  report: Uint8Array,
  certificates: () => SnpEvidence['certificates'],
  crl: Uint8Array,
  options: Pick<SnpEvidence, 'now' | 'roots'>,
): Machine {
  return async () => {
    const findings = new Findings();
    const evidence = { report, certificates: certificates(), crls: [parseCrl(crl)], ...options };
    await verifySnpReport({ ...evidence, revocation: 'required' }, findings);
    if (findings.failures.length > 0) throw new Error(findings.failures[0]?.detail);
  };
}
