import { z } from 'zod';
import { toBase64url, type Evidence } from '../../proto/index.ts';
import { fromBase64 } from './base64.ts';
import { isJsonObject, parseJson } from './json.ts';
import { parseNvidiaEvidenceJson } from './nvidia-evidence-json.ts';
import { refuse } from './reasons.ts';
import { writeSnpReport } from './snp-json.ts';

/** Largest evidence of all devices together, in characters; as `nvidia-evidence-json.ts` takes it. */
const DEVICES_CHARACTERS_MAX = 2 * 1024 * 1024;

/** What the attesters of Confidential Containers collect, by the kind that a client says. */
export interface CocoEvidence {
  /** `sample`: nobody signed it. `simulated`: under the root of one machine. */
  readonly tee: Evidence['tee'] | 'sample';
  readonly quote: Uint8Array;
  /** DER, of the machine's own chain, where it came along. */
  readonly certificates: readonly Uint8Array[];
  readonly gpus: Evidence['gpus'];
  readonly switches: NonNullable<Evidence['switches']>;
  /** Of `sample` alone: what it says that it binds. */
  readonly sampleReportData: Uint8Array | undefined;
}

const base64 = z.string().max(256 * 1024);
// More may be in each: event logs, and what newer clients add. Nothing is read of it.
const tdxSchema = z.object({ quote: base64 });
const sampleSchema = z.object({ svn: z.string(), report_data: base64, quote: base64.optional() });
const snpSchema = z.object({
  attestation_report: z.unknown(),
  cert_chain: z
    .array(z.object({ cert_type: z.unknown(), data: z.array(z.int().min(0).max(255)).max(8192) }))
    .max(16)
    .nullish(),
});

/**
 * Reads evidence of one client.
 *
 * @param tee what the client said that it is: `tdx`, `snp`, or `sample`, whose evidence is a quote of a simulated platform, or nothing
 * @param additional JSON of an object from kind to evidence, or ''
 * @throws {Refusal} `parse/…`
 */
export function parseCocoEvidence(tee: string, primary: unknown, additional: string): CocoEvidence {
  const parsed = parsePrimary(tee, primary);
  return { certificates: [], sampleReportData: undefined, ...parsed, ...parseDevices(additional) };
}

function parsePrimary(
  tee: string,
  primary: unknown,
): Pick<CocoEvidence, 'tee' | 'quote'> & Partial<Pick<CocoEvidence, 'certificates' | 'sampleReportData'>> {
  switch (tee) {
    case 'tdx':
      return { tee, quote: fromBase64(shape(tdxSchema, primary, tee).quote) };
    case 'snp': {
      const { attestation_report: report, cert_chain: chain } = shape(snpSchema, primary, tee);
      const certificates = (chain ?? []).map(({ data }) => Uint8Array.from(data));
      return { tee, quote: writeSnpReport(report), certificates };
    }
    case 'sample': {
      const { report_data: reportData, quote } = shape(sampleSchema, primary, tee);
      if (quote !== undefined) return { tee: 'simulated', quote: fromBase64(quote) };
      return { tee, quote: new Uint8Array(), sampleReportData: fromBase64(reportData) };
    }
    default:
      return refuse('parse/unsupported-tee', `evidence of kind ${tee.slice(0, 64)} is not verified here`);
  }
}

function parseDevices(additional: string): Pick<CocoEvidence, 'gpus' | 'switches'> {
  if (additional === '') return { gpus: [], switches: [] };
  const kinds = parseJson(additional, { what: 'additional evidence', charactersMax: DEVICES_CHARACTERS_MAX });
  if (!isJsonObject(kinds)) refuse('parse/json', 'additional evidence is no object');
  const { nvidia, ...others } = kinds;
  const [other] = Object.keys(others);
  if (other !== undefined)
    refuse('parse/unsupported-tee', `devices of kind ${other.slice(0, 64)} are not verified here`);
  if (!isJsonObject(nvidia) || !Array.isArray(nvidia['device_evidence_list'])) {
    if (nvidia === undefined) return { gpus: [], switches: [] };
    refuse('parse/json', 'NVIDIA evidence has no device_evidence_list');
  }
  const gpus: CocoEvidence['gpus'] = [];
  const switches: CocoEvidence['switches'] = [];
  for (const { arch = '', report, certificates } of parseNvidiaEvidenceJson(
    JSON.stringify(nvidia['device_evidence_list']),
  )) {
    const device = { report: toBase64url(report), certificates };
    if (arch === 'HOPPER' || arch === 'BLACKWELL') gpus.push({ arch, ...device });
    else if (arch === 'LS10') switches.push({ arch, ...device });
    else
      refuse('parse/unsupported-vendor', `NVIDIA evidence of architecture ${arch.slice(0, 64)} is not verified here`);
  }
  return { gpus, switches };
}

function shape<T>(schema: z.ZodType<T>, value: unknown, tee: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  return refuse(
    'parse/json',
    `${tee} evidence: ${parsed.error.issues[0]?.path.join('.') ?? ''} is not as it should be`,
  );
}
