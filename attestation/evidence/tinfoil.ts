import { z } from 'zod';
import { fromHex, fromUtf8 } from '../../proto/index.ts';
import { fromBase64 } from './base64.ts';
import { parseJsonDocument } from './json.ts';
import { refuse } from './reasons.ts';

/** Largest capture, in characters; with one GPU it has 21 KiB, and each further one adds 12 KiB. */
const CAPTURE_CHARACTERS_MAX = 1024 * 1024;
const GPUS_MAX = 16;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const base64 = z
  .string()
  .min(4)
  .max(128 * 1024);
const captureSchema = z.object({
  format: z.literal('https://tinfoil.sh/predicate/attestation/v3'),
  report_data: z.object({ tls_key_fp: hash, hpke_key: hash, nonce: hash }),
  cpu: z.object({ platform: z.enum(['tdx', 'sev-snp']), report: base64 }),
  gpu: z
    .object({
      evidences: z.array(z.object({ arch: z.string().max(32), certificate: base64, evidence: base64 })).max(GPUS_MAX),
    })
    .optional(),
});

/** What a worker of Tinfoil serves at `/.well-known/tinfoil-attestation`, version 3. Nothing is verified yet. */
export interface TinfoilCapture {
  readonly platform: 'tdx' | 'sev-snp';
  /** TDX quote or SNP report. */
  readonly report: Uint8Array;
  /** SHA-256 of the TLS key's SubjectPublicKeyInfo, 32 bytes. */
  readonly tlsKeyFingerprint: Uint8Array;
  /** X25519, 32 bytes. */
  readonly hpkeKey: Uint8Array;
  /** 32 bytes, as the answer repeats it; the relying party compares with its own. */
  readonly nonce: Uint8Array;
  /** Exact text of the GPU and NVSwitch evidence, which the report data covers; `undefined` for a worker without. */
  readonly gpuText: string | undefined;
  readonly switchText: string | undefined;
  readonly gpus: readonly {
    readonly arch: string;
    readonly report: Uint8Array;
    /** PEM, leaf first. */
    readonly certificates: string;
  }[];
}

/**
 * Parses a capture. The digests that it names of its own evidence are not read: verifiers compute them.
 *
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`, `parse/base64`
 */
export function parseTinfoilCapture(text: string): TinfoilCapture {
  const { value, members } = parseJsonDocument(text, { what: 'capture', charactersMax: CAPTURE_CHARACTERS_MAX });
  const parsed = captureSchema.safeParse(value);
  if (!parsed.success) refuse('parse/json', `capture: ${z.prettifyError(parsed.error).slice(0, 300)}`);
  const { report_data: bound, cpu, gpu } = parsed.data;
  return {
    platform: cpu.platform,
    report: fromBase64(cpu.report),
    tlsKeyFingerprint: fromHex(bound.tls_key_fp),
    hpkeKey: fromHex(bound.hpke_key),
    nonce: fromHex(bound.nonce),
    gpuText: members.get('gpu'),
    switchText: members.get('nvswitch'),
    gpus: (gpu?.evidences ?? []).map(({ arch, certificate, evidence }) => ({
      arch,
      report: fromBase64(evidence),
      certificates: fromUtf8(fromBase64(certificate), 'CFN_EVIDENCE_MALFORMED'),
    })),
  };
}
