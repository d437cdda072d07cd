import { z } from 'zod';
import { fromBase64url, fromUtf8, utf8 } from './bytes.ts';
import { endorsementsSchema } from './endorsements.ts';
import { CfnError } from './errors.ts';
import { frame, sha256, sha256Hex, sha512 } from './hash.ts';
import { EVIDENCE_BYTES_MAX } from './limits.ts';

const base64urlSchema = z.string().regex(/^[A-Za-z0-9_-]+$/);

const deviceEvidence = {
  /** SPDM report. */
  report: base64urlSchema,
  /** PEM, leaf first. */
  certificates: z.string().max(65_536),
};

/** Evidence on the wire: JSON, members base64url unless said otherwise. */
export const evidenceSchema = z.strictObject({
  format: z.literal('cfn/evidence/v1'),
  /** `simulated` carries the bytes of a TDX quote under a root made on one machine. */
  tee: z.enum(['tdx', 'snp', 'simulated']),
  nonce: base64urlSchema,
  /** The worker keys document, exact bytes. */
  workerKeys: base64urlSchema,
  quote: base64urlSchema,
  gpus: z.array(z.strictObject({ arch: z.enum(['HOPPER', 'BLACKWELL']), ...deviceEvidence })).max(16),
  /** NVSwitches between the GPUs, asked with the same nonce. Left out: none, as in documents from before there were any. */
  switches: z
    .array(z.strictObject({ arch: z.literal('LS10'), ...deviceEvidence }))
    .min(1)
    .max(16)
    .optional(),
  /** Bound by nothing, and no part of the digest. */
  endorsements: endorsementsSchema,
});
export type Evidence = z.infer<typeof evidenceSchema>;

export function parseEvidence(bytes: Uint8Array): Evidence {
  if (bytes.length > EVIDENCE_BYTES_MAX)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', `evidence is over ${EVIDENCE_BYTES_MAX} bytes`);
  try {
    return evidenceSchema.parse(JSON.parse(fromUtf8(bytes)));
  } catch (cause) {
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'evidence is not a cfn/evidence/v1 document', { cause });
  }
}

/** Nonce for the GPUs, derived so that CPU and GPU evidence share one origin (design §4). 32 bytes. */
export function gpuNonce(nonce: Uint8Array, workerKeys: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return sha256(frame('cfn/gpu/v1', nonce, workerKeys));
}

/** A GPU or an NVSwitch. */
export type EvidenceDevice = Evidence['gpus'][number] | NonNullable<Evidence['switches']>[number];

/** GPUs, then switches. */
export function devicesOf({ gpus, switches = [] }: Pick<Evidence, 'gpus' | 'switches'>): EvidenceDevice[] {
  return [...gpus, ...switches];
}

/** Digest over the evidence of all GPUs and switches, in order; their architectures tell them apart. */
export function gpuEvidenceDigest(devices: readonly EvidenceDevice[]): Promise<Uint8Array<ArrayBuffer>> {
  const parts = devices.flatMap(({ arch, report, certificates }) => [
    utf8(arch),
    fromBase64url(report),
    utf8(certificates),
  ]);
  return sha256(frame('cfn/gpu-evidence/v1', ...parts));
}

/** The 64 bytes of report data that a quote must carry (design §4). */
export async function reportData(
  nonce: Uint8Array,
  workerKeys: Uint8Array,
  devices: readonly EvidenceDevice[],
): Promise<Uint8Array<ArrayBuffer>> {
  return sha512(frame('cfn/report-data/v1', nonce, workerKeys, await gpuEvidenceDigest(devices)));
}

/** Digest that receipts name. Over the framed parts, so that re-serialised JSON has the same digest. */
export async function evidenceDigest(evidence: Evidence): Promise<string> {
  const { nonce, workerKeys, quote } = evidence;
  return sha256Hex(
    frame(
      'cfn/evidence/v1',
      utf8(evidence.tee),
      fromBase64url(nonce),
      fromBase64url(workerKeys),
      fromBase64url(quote),
      await gpuEvidenceDigest(devicesOf(evidence)),
    ),
  );
}

/** What a worker's keys document lists; one key per role. Carried as exact bytes and bound by the evidence. */
export const workerKeysSchema = z.strictObject({
  format: z.literal('cfn/worker-keys/v1'),
  /** SHA-256 of the TLS key's SubjectPublicKeyInfo, hexadecimal. */
  tls: z.strictObject({ spki: z.string().regex(/^[0-9a-f]{64}$/) }),
  /** OHTTP key configurations (RFC 9458 §3.1), base64url. `config` is of the KEM that every client has; `hybrid`, where offered, of one that holds against quantum computers, too. */
  ohttp: z.strictObject({ config: base64urlSchema, hybrid: base64urlSchema.optional() }),
  /** Raw Ed25519 public key, base64url. */
  receipt: z.strictObject({ publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/) }),
  /** RFC 3339, UTC. */
  notAfter: z.iso.datetime(),
});
export type WorkerKeys = z.infer<typeof workerKeysSchema>;

/** Takes the place of a worker keys document in evidence that is for no worker. Nobody admits a worker with it: it does not parse as one. */
export const NO_WORKER_KEYS: Uint8Array = utf8('{"format":"cfn/no-worker-keys/v1"}');

export function encodeWorkerKeys(keys: WorkerKeys): Uint8Array<ArrayBuffer> {
  return utf8(JSON.stringify(workerKeysSchema.parse(keys)));
}

export function parseWorkerKeys(bytes: Uint8Array): WorkerKeys {
  try {
    return workerKeysSchema.parse(JSON.parse(fromUtf8(bytes)));
  } catch (cause) {
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'worker keys document is malformed', { cause });
  }
}

/** A worker's name everywhere: SHA-256 of its keys document, hexadecimal. */
export function workerId(workerKeys: Uint8Array): Promise<string> {
  return sha256Hex(workerKeys);
}
