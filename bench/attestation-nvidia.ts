import { readFileSync } from 'node:fs';
import { fromHex } from '../proto/index.ts';
import { parseGpuReport } from '../attestation/evidence/nvidia.ts';
import { parsePemChain } from '../attestation/evidence/x509.ts';
import { Findings } from '../attestation/verifier/findings.ts';
import { createRimCache, type RimCache } from '../attestation/verifier/nvidia/rim-cache.ts';
import { verifyNvidia } from '../attestation/verifier/nvidia/verify.ts';
import { load, median } from './measure.ts';
import type { Row } from './row.ts';

const NONCE = fromHex('931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb');
const ROUNDS = 5;
const COUNT = 60;

/** A real H100's evidence with both RIMs, from bytes to findings; cold, and with the RIMs verified before. */
export async function nvidiaRows(): Promise<Row[]> {
  const report = read('reports/h100-550.90.07.bin');
  const pem = new TextDecoder().decode(read('chains/h100-550.90.07.pem'));
  const rims = ['NV_GPU_DRIVER_GH100_550.90.07', 'NV_GPU_VBIOS_1010_0200_882_96009F0001'].map((id) =>
    read(`rims/${id}.xml`),
  );
  const verify = async (rimCache: RimCache): Promise<void> => {
    const findings = new Findings();
    await verifyNvidia(
      {
        gpus: [{ name: 'GPU 0', report: parseGpuReport(report), chain: parsePemChain(pem) }],
        switches: [],
        rims,
        ocsp: [],
        crls: [],
        revocation: { whenSupplied: 'measured without' },
        nonce: NONCE,
        now: new Date('2025-10-24T12:00:00Z'),
        rimCache,
      },
      findings,
    );
    if (findings.failures.length > 0) throw new Error(JSON.stringify(findings.failures));
  };
  const kept = createRimCache();
  return [
    await row('GPU report with two RIMs, cold', 12, () => verify(createRimCache())),
    await row('GPU report with two RIMs, RIMs cached', 4, () => verify(kept)),
  ];
}

async function row(name: string, goalMs: number, run: () => Promise<void>): Promise<Row> {
  await load(run, COUNT, 1); // warm-up, not counted
  const rounds: number[] = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push((await load(run, COUNT, 1)).p50);
  const ours = median(rounds);
  return {
    row: name,
    unit: 'ms',
    ours,
    spread: [Math.min(...rounds), Math.max(...rounds)],
    goal: `≤ ${goalMs} ms`,
    met: ours <= goalMs,
  };
}

function read(path: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`../attestation/vectors/nvidia/${path}`, import.meta.url)));
}
