import { CfnError, fromUtf8 } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import { decodeText } from './text.ts';
import { jsonKind, type JsonKind } from './json-kind.ts';

/** What one input is, told by its content alone. Nothing of it is verified, and only as much is parsed as tells the kind. */
export type Input =
  | { readonly kind: BinaryKind; readonly bytes: Uint8Array }
  | { readonly kind: TextKind; readonly text: string }
  | { readonly kind: JsonKind; readonly text: string; readonly json: unknown };
export type BinaryKind =
  | 'tdx-quote'
  | 'snp-report'
  | 'spdm-report'
  | 'certificate'
  | 'crl'
  | 'ocsp-response'
  | 'hcl-report'
  | 'event-log'
  | 'event-log-table'
  | 'tpm-quote';
/** `pem`: certificates and CRLs; `rim`: signed XML; `token`: a compact JWS; `binding-note`: `NAME=hex` lines. */
export type TextKind = 'pem' | 'rim' | 'token' | 'binding-note';
export type InputKind = BinaryKind | TextKind | JsonKind;

/** Texts within texts (hexadecimal or base64 of something) are unwrapped this often. */
const WRAPPINGS_MAX = 2;

/**
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`, reason `parse/unknown-input`, `parse/empty`, or `parse/json` for what looks like
 *   JSON and is none.
 */
export function recognise(bytes: Uint8Array, wrappings = 0): Input {
  if (bytes.length === 0) refuse('parse/empty', 'the input is empty');
  const binary = isText(bytes) ? undefined : binaryKind(bytes);
  if (binary !== undefined) return { kind: binary, bytes };
  const text = textOf(bytes);
  if (text === undefined) refuse('parse/unknown-input', `${bytes.length} bytes that are no kind of evidence we know`);
  const trimmed = text.trimStart();
  if (trimmed.startsWith('{') || trimmed.startsWith('[')) return recogniseJson(text);
  if (trimmed.startsWith('<')) return { kind: 'rim', text };
  if (text.includes('-----BEGIN ')) return { kind: 'pem', text };
  if (/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\s*$/.test(trimmed)) return { kind: 'token', text: text.trim() };
  if (isNote(trimmed)) return { kind: 'binding-note', text };
  const inner = wrappings < WRAPPINGS_MAX ? decodeText(trimmed) : undefined;
  if (inner === undefined) refuse('parse/unknown-input', 'a text that is no kind of evidence we know');
  return recognise(inner, wrappings + 1);
}

/** Longest note; it names a nonce and a key or two. */
const NOTE_CHARACTERS_MAX = 16 * 1024;

/** `NAME=hex` lines. Line by line: one pattern over all of them takes time exponential to their length when the last one does not fit. */
function isNote(text: string): boolean {
  if (text.length > NOTE_CHARACTERS_MAX) return false;
  const lines = text.trim().split(/\s+/);
  return lines.every((line) => /^[A-Z0-9_]+=[0-9a-fA-F]+$/.test(line));
}

function recogniseJson(text: string): Input {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    refuse('parse/json', 'the input begins like JSON and is none', { cause });
  }
  const kind = jsonKind(json);
  if (kind === undefined) refuse('parse/unknown-input', 'JSON that is no kind of evidence we know');
  return { kind, text, json };
}

const SNP_REPORT_BYTES = 1184;
const TDX_TEE = 0x81;
/** Intel's quoting enclave, bytes 12 to 28 of a quote's header. */
const INTEL_QE_VENDOR = [
  0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

function binaryKind(bytes: Uint8Array): BinaryKind | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (startsWith(bytes, 'HCLA')) return 'hcl-report';
  if (startsWith(bytes, 'CCEL')) return 'event-log-table';
  if (begins(bytes, [0xff, 0x54, 0x43, 0x47])) return 'tpm-quote';
  if (begins(bytes, [0x11, 0xe0])) return 'spdm-report';
  if (bytes.length > 48 && startsWith(bytes.subarray(32), 'Spec ID Event')) return 'event-log';
  const der = derKind(bytes);
  if (der !== undefined) return der;
  if (bytes.length < 48) return undefined;
  const intel = INTEL_QE_VENDOR.every((byte, i) => bytes[12 + i] === byte);
  if (intel || (view.getUint16(0, true) <= 16 && view.getUint16(2, true) <= 4 && view.getUint32(4, true) === TDX_TEE)) {
    return 'tdx-quote';
  }
  // Version, signature algorithm; or the length alone, so that a report with those bytes wrong is refused as what it is.
  if (bytes.length === SNP_REPORT_BYTES) return 'snp-report';
  return bytes.length > 0x38 && view.getUint32(0, true) <= 16 && view.getUint32(0x34, true) === 1
    ? 'snp-report'
    : undefined;
}

/** Hexadecimal digits would pass for DER, whose sequences begin like the digit 0. */
function isText(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 64).every((byte) => (byte >= 0x20 && byte < 0x7f) || (byte >= 0x09 && byte <= 0x0d));
}

/** Certificates begin with [0] version, CRLs with the INTEGER version, OCSP responses with an ENUMERATED status. */
function derKind(bytes: Uint8Array): BinaryKind | undefined {
  const outer = derContent(bytes, 0);
  if (outer === undefined) return undefined;
  if (bytes[outer] === 0x0a) return 'ocsp-response';
  const inner = derContent(bytes, outer);
  if (inner === undefined) return undefined;
  return bytes[inner] === 0x02 && bytes[inner + 1] === 1 ? 'crl' : 'certificate';
}

/** Where the content of the SEQUENCE at an offset begins. */
function derContent(bytes: Uint8Array, at: number): number | undefined {
  if (bytes[at] !== 0x30) return undefined;
  const length = bytes[at + 1] ?? 0;
  if (length < 0x80) return at + 2;
  return length >= 0x81 && length <= 0x84 ? at + 2 + (length & 0x7f) : undefined;
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    const text = fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED').replace(/\0$/, '');
    return text.includes('\0') ? undefined : text.replace(/^\uFEFF/, '');
  } catch (error) {
    if (error instanceof CfnError) return undefined;
    throw error;
  }
}

function startsWith(bytes: Uint8Array, ascii: string): boolean {
  return begins(
    bytes,
    Array.from(ascii, (character) => character.charCodeAt(0)),
  );
}

function begins(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}
