import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { fromHex, fromUtf8 } from '../../../proto/index.ts';
import { parseGpuReport, parseSwitchReport } from '../../evidence/nvidia.ts';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import { parsePemChain } from '../../evidence/x509.ts';
import { Findings, type FailedFinding } from '../findings.ts';
import { appraiseGpus } from './appraise.ts';
import type { GpuDemands } from './demands.ts';
import { verifyNvidia, type NvidiaEvidence } from './verify.ts';

const VECTORS = new URL('../../vectors/nvidia/', import.meta.url);

export function vector(path: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(path, VECTORS)));
}

export function chainOf(path: string) {
  return parsePemChain(fromUtf8(vector(path)));
}

export function gpuOf(name: string, file: string) {
  return { name, report: parseGpuReport(vector(`reports/${file}.bin`)), chain: chainOf(`chains/${file}.pem`) };
}

export function switchOf(name: string, file: string) {
  return { name, report: parseSwitchReport(vector(`reports/${file}.bin`)), chain: chainOf(`chains/${file}.pem`) };
}

export function ocspOf(name: string) {
  return parseOcspResponse(vector(`ocsp/${name}.der`));
}

export const DRIVER_RIM = 'rims/NV_GPU_DRIVER_GH100_550.90.07.xml';
export const VBIOS_RIM = 'rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml';
export const H100_NONCE = fromHex('931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb');
export const H100_NOW = new Date('2025-10-24T12:00:00Z');

/** The full H100 case: two RIMs, no revocation data. */
export function h100(change: Partial<NvidiaEvidence> = {}): NvidiaEvidence {
  return {
    gpus: [gpuOf('GPU 0', 'h100-550.90.07')],
    switches: [],
    rims: [vector(DRIVER_RIM), vector(VBIOS_RIM)],
    ocsp: [],
    crls: [],
    revocation: { whenSupplied: 'the vectors have no fresh answers for devices' },
    nonce: H100_NONCE,
    now: H100_NOW,
    ...change,
  };
}

export const DEMANDS: GpuDemands = {
  countMin: 1,
  countMax: 8,
  architectures: ['HOPPER', 'BLACKWELL'],
  driver: { minimum: '535' },
  vbios: { minimum: '96.00' },
  firmwareId: 'required',
  measurements: 'rims',
  modes: ['single-passthrough'],
  switches: 'required',
};

/** Verifies and appraises; gives the findings and the results. */
export async function judge(evidence: NvidiaEvidence, demands: Partial<GpuDemands> = {}) {
  const findings = new Findings();
  const verification = await verifyNvidia(evidence, findings);
  await appraiseGpus(verification, { ...DEMANDS, ...demands }, findings);
  return { findings, verification, reasons: reasonsOf(findings.failures) };
}

export function reasonsOf(failures: readonly FailedFinding[]): string[] {
  return [...new Set(failures.map(({ reason }) => reason))].sort();
}

const captures = z.array(z.object({ evidence: z.string(), certificate: z.string(), nonce: z.string() }));

/** The same machine as it was captured, base64. */
export function boxCaptures() {
  const read = (file: string) => captures.parse(JSON.parse(fromUtf8(vector(`box-590.12/${file}.json`))));
  return { gpus: read('gpus'), switches: read('switches') };
}

/** A real machine of eight H100 behind four switches, in protected PCIe mode. */
export function box(): Pick<NvidiaEvidence, 'gpus' | 'switches' | 'nonce'> {
  const bytes = (base64: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(base64, 'base64'));
  const chain = (base64: string) => parsePemChain(fromUtf8(bytes(base64)));
  const { gpus, switches } = boxCaptures();
  return {
    gpus: gpus.map(({ evidence, certificate }, i) => ({
      name: `GPU ${i}`,
      report: parseGpuReport(bytes(evidence)),
      chain: chain(certificate),
    })),
    switches: switches.map(({ evidence, certificate }, i) => ({
      name: `switch ${i}`,
      report: parseSwitchReport(bytes(evidence)),
      chain: chain(certificate),
    })),
    nonce: fromHex(gpus[0]?.nonce ?? ''),
  };
}
