import {
  concatBytes,
  kbsReportData,
  reportData,
  sha256,
  sha512,
  utf8,
  type EvidenceDevice,
  type KbsBinding,
} from '../../proto/index.ts';
import type { TinfoilCapture } from '../evidence/tinfoil.ts';

/** What report data can cover. `gpu-evidence` means a digest over the evidence of every GPU. */
export type BoundPart = 'nonce' | 'channel-keys' | 'gpu-evidence';

/** What a scheme says that the 64 bytes of report data must be, computed from parts that the verifier holds itself. */
export interface ReportDataBinding {
  readonly scheme: string;
  readonly reportData: Uint8Array;
  readonly covers: readonly BoundPart[];
}

const REPORT_DATA_BYTES = 64;

/** Ours (design §4): SHA-512 over labelled, length-framed nonce, worker keys document and digest of the evidence of all GPUs and switches. */
export async function cfnBinding(
  nonce: Uint8Array,
  workerKeys: Uint8Array,
  devices: readonly EvidenceDevice[],
): Promise<ReportDataBinding> {
  return {
    scheme: 'cfn/report-data/v1',
    reportData: await reportData(nonce, workerKeys, devices),
    covers: ['nonce', 'channel-keys', 'gpu-evidence'],
  };
}

/**
 * Trustee's brokers and clients: a hash over nonce, the client's key and the text with the evidence of all devices, which are asked with
 * one over nonce and key.
 */
export async function kbsBinding(binding: KbsBinding, additionalEvidence: string): Promise<ReportDataBinding> {
  return {
    scheme: 'kbs/0.4.0',
    reportData: await kbsReportData(binding, additionalEvidence),
    covers: ['nonce', 'channel-keys', 'gpu-evidence'],
  };
}

/**
 * Tinfoil version 3: SHA-256(TLS key fingerprint ‖ HPKE key ‖ nonce ‖ SHA-256(GPU JSON) [‖ SHA-256(NVSwitch JSON)]), then zeros.
 * Without GPU evidence its digest is left out, and a report that covers none binds none. Their servers re-encode the NVSwitch JSON
 * after hashing it (known to their users), so such captures do not come out equal.
 */
export async function tinfoilBinding(capture: TinfoilCapture, nonce: Uint8Array): Promise<ReportDataBinding> {
  const { tlsKeyFingerprint, hpkeKey, gpuText, switchText } = capture;
  const texts = [gpuText, switchText].filter((text) => text !== undefined);
  const digests = await Promise.all(texts.map((text) => sha256(utf8(text))));
  return {
    scheme: 'tinfoil/v3',
    reportData: padded(await sha256(concatBytes(tlsKeyFingerprint, hpkeKey, nonce, ...digests))),
    covers: ['nonce', 'channel-keys', ...(gpuText === undefined ? [] : (['gpu-evidence'] as const))],
  };
}

/** teekit on SEV-SNP: SHA-512(nonce ‖ X25519 public key). No part of it speaks of GPUs. */
export async function teekitBinding(nonce: Uint8Array, publicKey: Uint8Array): Promise<ReportDataBinding> {
  return {
    scheme: 'teekit',
    reportData: await sha512(concatBytes(nonce, publicKey)),
    covers: ['nonce', 'channel-keys'],
  };
}

/** Intel Trust Authority, and teekit on TDX: SHA-512(nonce value ‖ issued-at text ‖ user data). */
export async function trustAuthorityBinding(
  nonce: { readonly value: Uint8Array; readonly issuedAt: Uint8Array },
  userData: Uint8Array,
): Promise<ReportDataBinding> {
  return {
    scheme: 'intel-trust-authority',
    reportData: await sha512(concatBytes(nonce.value, nonce.issuedAt, userData)),
    covers: userData.length === 0 ? ['nonce'] : ['nonce', 'channel-keys'],
  };
}

/** NEAR and Venice: 32 bytes that name the keys (an address, padded, or a digest), then the nonce as it is. */
export function nearBinding(keys: Uint8Array, nonce: Uint8Array): ReportDataBinding {
  return { scheme: 'near', reportData: concatBytes(keys, nonce), covers: ['nonce', 'channel-keys'] };
}

function padded(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(REPORT_DATA_BYTES);
  out.set(bytes);
  return out;
}
