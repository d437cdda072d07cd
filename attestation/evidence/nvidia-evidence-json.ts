import { fromHex, fromUtf8 } from '../../proto/index.ts';
import { fromBase64 } from './base64.ts';
import { isJsonObject, parseJson } from './json.ts';
import { refuse } from './reasons.ts';

/** Largest document, in characters: eight GPUs and four switches take 140 kB. */
const DOCUMENT_CHARACTERS_MAX = 2 * 1024 * 1024;
/** Most devices in one document. */
const DEVICES_MAX = 64;

/** One device's evidence as NVIDIA's tools write it: bytes of the report, and the chain in PEM. */
export interface CarriedDevice {
  /** As the document says, such as `HOPPER`, `BLACKWELL`, `LS10`; the certificates decide. */
  readonly arch: string | undefined;
  readonly report: Uint8Array;
  readonly certificates: string;
  /** What the document says was asked for; the report itself decides. */
  readonly nonce: Uint8Array | undefined;
}

/**
 * Reads JSON evidence: NVIDIA's SDKs write a list of devices, requests to the remote attestation service have it under
 * `evidence_list`, and some tools under `evidences`. Certificates are PEM, or base64 of PEM.
 *
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`, `parse/base64`, `parse/empty`
 */
export function parseNvidiaEvidenceJson(text: string): CarriedDevice[] {
  const json = parseJson(text, { what: 'GPU evidence', charactersMax: DOCUMENT_CHARACTERS_MAX });
  const list = Array.isArray(json)
    ? json
    : isJsonObject(json)
      ? (json['evidence_list'] ?? json['evidences'] ?? [json])
      : [];
  if (!Array.isArray(list) || list.length === 0) refuse('parse/empty', 'GPU evidence has no device');
  if (list.length > DEVICES_MAX)
    refuse('parse/length', `GPU evidence has ${list.length} devices, at most ${DEVICES_MAX} are taken`);
  return list.map(parseDevice);
}

function parseDevice(item: unknown, index: number): CarriedDevice {
  const fields = isJsonObject(item) ? item : {};
  const { evidence, certificate, arch, nonce } = fields;
  if (typeof evidence !== 'string' || typeof certificate !== 'string')
    refuse('parse/json', `device ${index} of the GPU evidence has no evidence or no certificate`);
  return {
    arch: typeof arch === 'string' ? arch : undefined,
    report: decodeNvidiaReport(evidence),
    certificates: certificate.includes('-----BEGIN')
      ? certificate
      : fromUtf8(fromBase64(stripped(certificate)), 'CFN_EVIDENCE_MALFORMED'),
    nonce: typeof nonce === 'string' ? fromHex(nonce.toLowerCase(), 'CFN_EVIDENCE_MALFORMED') : undefined,
  };
}

/**
 * A report's bytes from text: hexadecimal, which NVIDIA's samples have, or base64.
 *
 * @throws {Refusal} `parse/base64`
 */
export function decodeNvidiaReport(text: string): Uint8Array {
  const compact = stripped(text);
  // A report begins with 11 e0, which is "EeA" in base64; that is no hexadecimal text of even length that begins so.
  if (/^11[eE]0/.test(compact)) return fromHex(compact.toLowerCase(), 'CFN_EVIDENCE_MALFORMED');
  return fromBase64(compact);
}

function stripped(text: string): string {
  return text.replaceAll(/\s+/g, '');
}
