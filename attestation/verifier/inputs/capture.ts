import { concatBytes, equalBytes, fromHex, sha256, utf8 } from '../../../proto/index.ts';
import { parseJsonDocument } from '../../evidence/json.ts';
import { refuse } from '../../evidence/reasons.ts';
import { z } from 'zod';
import { decodeBase64 } from './text.ts';

/** Largest capture, in characters; eight GPUs with their chains have about 100 kB. */
const CAPTURE_CHARACTERS_MAX = 1024 * 1024;

/**
 * What Tinfoil's workers answer (`https://tinfoil.sh/predicate/attestation/v3`): a quote, GPU evidence, and the values that the quote's
 * report data is over. Nothing is verified yet.
 */
export interface WorkerCapture {
  readonly platform: 'tdx' | 'snp';
  readonly report: Uint8Array;
  readonly devices: readonly { readonly report: Uint8Array; readonly pem: string }[];
  readonly nonce: Uint8Array;
  /** Hexadecimal, by name: what is hashed into report data. */
  readonly reportData: Readonly<Record<string, string>>;
  /** Exact text of the GPU and switch evidence, whose digests are among them. */
  readonly gpu: string | undefined;
  readonly nvswitch: string | undefined;
}

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const deviceSchema = z.looseObject({ certificate: z.string(), evidence: z.string() });
const evidencesSchema = z.looseObject({ evidences: z.array(deviceSchema).max(32) });
const captureSchema = z.looseObject({
  format: z.literal('https://tinfoil.sh/predicate/attestation/v3'),
  report_data: z.strictObject({
    tls_key_fp: digest,
    hpke_key: digest,
    nonce: digest,
    gpu_evidence_hash: digest.nullish(),
    nvswitch_evidence_hash: digest.nullish(),
  }),
  cpu: z.looseObject({ platform: z.string(), report: z.string() }),
  gpu: evidencesSchema.nullish(),
  nvswitch: evidencesSchema.nullish(),
});

/** @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/unsupported-tee` */
export function parseCapture(text: string): WorkerCapture {
  const { value, members } = parseJsonDocument(text, { what: 'capture', charactersMax: CAPTURE_CHARACTERS_MAX });
  const parsed = captureSchema.safeParse(value);
  if (!parsed.success) refuse('parse/json', `capture has another form: ${z.prettifyError(parsed.error).slice(0, 300)}`);
  const { report_data, cpu, gpu, nvswitch } = parsed.data;
  const platform = /tdx/i.test(cpu.platform) ? 'tdx' : /snp/i.test(cpu.platform) ? 'snp' : undefined;
  if (platform === undefined) refuse('parse/unsupported-tee', `capture is of ${cpu.platform.slice(0, 40)}`);
  const devices = [...(gpu?.evidences ?? []), ...(nvswitch?.evidences ?? [])].map(({ evidence, certificate }) => ({
    report: bytesOf(evidence, 'evidence'),
    pem: new TextDecoder().decode(bytesOf(certificate, 'certificate')),
  }));
  return {
    platform,
    report: bytesOf(cpu.report, 'report'),
    devices,
    nonce: fromHex(report_data.nonce),
    reportData: Object.fromEntries(
      Object.entries(report_data).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    ),
    gpu: gpu == null ? undefined : members.get('gpu'),
    nvswitch: nvswitch == null ? undefined : members.get('nvswitch'),
  };
}

/**
 * Requires that report data is the digest of the values that the capture lists, over all 64 bytes, and that they are of the GPU evidence
 * at hand.
 *
 * @throws {Refusal} `binding/report-data`, `binding/gpu-digest`
 */
export async function requireCaptureBound(
  { reportData, gpu, nvswitch }: WorkerCapture,
  quoted: Uint8Array,
): Promise<void> {
  const order = ['tls_key_fp', 'hpke_key', 'nonce', 'gpu_evidence_hash', 'nvswitch_evidence_hash'];
  const parts = order.flatMap((name) => (reportData[name] === undefined ? [] : [fromHex(reportData[name])]));
  if (!equalBytes(quoted, concatBytes(await sha256(concatBytes(...parts)), new Uint8Array(32))))
    refuse('binding/report-data', 'report data is not the digest of the values that the capture lists');
  await requireDigest(gpu, reportData['gpu_evidence_hash'], 'GPU');
  await requireDigest(nvswitch, reportData['nvswitch_evidence_hash'], 'switch');
}

async function requireDigest(text: string | undefined, expected: string | undefined, what: string): Promise<void> {
  if (text === undefined && expected === undefined) return;
  if (text === undefined || expected === undefined || !equalBytes(await sha256(utf8(text)), fromHex(expected)))
    refuse('binding/gpu-digest', `report data is over other ${what} evidence`);
}

function bytesOf(text: string, what: string): Uint8Array {
  return decodeBase64(text) ?? refuse('parse/json', `${what} of the capture is not base64`);
}
