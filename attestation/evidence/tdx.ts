import { ByteReader, CfnError, equalBytes, fromHex } from '../../proto/index.ts';
import { refuse, Refusal } from './reasons.ts';
import { parsePemChain, type Certificate } from './x509.ts';

/** Intel's TD report, 1.0 (584 bytes) or 1.5 (648 bytes). */
export interface TdReport {
  /** 16 bytes. */
  readonly teeTcbSvn: Uint8Array;
  /** Measurements are SHA-384, 48 bytes each. */
  readonly mrseam: Uint8Array;
  readonly mrsignerseam: Uint8Array;
  readonly seamAttributes: bigint;
  readonly tdAttributes: bigint;
  readonly xfam: bigint;
  readonly mrtd: Uint8Array;
  readonly mrconfigid: Uint8Array;
  readonly mrowner: Uint8Array;
  readonly mrownerconfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  /** 64 bytes chosen by the guest. */
  readonly reportData: Uint8Array;
  /** TD report 1.5 only: SVN of the module loaded now (16 bytes), and the service TDs bound (48 bytes). */
  readonly teeTcbSvn2: Uint8Array | undefined;
  readonly mrservicetd: Uint8Array | undefined;
}

/** The quoting enclave's SGX report, 384 bytes. */
export interface QeReport {
  /** All of it: what the PCK key signs. */
  readonly bytes: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly miscSelect: number;
  readonly attributes: Uint8Array;
  readonly mrsigner: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Uint8Array;
}

export interface TdxQuote {
  readonly version: 4 | 5;
  /** 20 bytes of the header; Intel's quoting enclave puts a platform id there. */
  readonly userData: Uint8Array;
  readonly report: TdReport;
  /** Header and body: what the attestation key signs. */
  readonly signedBytes: Uint8Array;
  /** r ‖ s, P-256. */
  readonly signature: Uint8Array;
  /** x ‖ y, P-256. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: QeReport;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthenticationData: Uint8Array;
  /** PCK leaf, PCK CA, root: as sent, not verified. */
  readonly pckChain: readonly Certificate[];
  /** Bytes up to the end of the signature data; what follows is unsigned padding. */
  readonly quoteBytes: number;
}

const HEADER_BYTES = 48;
const TD_REPORT_10_BYTES = 584;
const TD_REPORT_15_BYTES = 648;
/** Largest quote, in bytes; real ones have 5 to 8 kB, and the length field allows 4 GB. */
const QUOTE_BYTES_MAX = 64 * 1024;
const ATTESTATION_KEY_ECDSA_P256 = 2;
const TEE_TYPE_SGX = 0;
const TEE_TYPE_TDX = 0x81;
const INTEL_QE_VENDOR = fromHex('939a7233f79c4ca9940a0db3957f0607');
const CERTIFICATION_QE_REPORT = 6;
const CERTIFICATION_PEM_CHAIN = 5;
/** Types of body that version 5 names. */
const BODY_SGX = 1;
const BODY_BYTES: Readonly<Record<number, number>> = { 2: TD_REPORT_10_BYTES, 3: TD_REPORT_15_BYTES };

/**
 * Parses a TDX quote of version 4 or 5 (Intel TDX DCAP Quote Generation Library, appendix A.3). Bytes after the declared
 * length are ignored: Linux pads quotes to 8000 bytes, and nothing signs the padding.
 *
 * @throws {Refusal} `parse/empty`, `parse/truncated`, `parse/length`, `parse/unsupported-…`, and those of the PEM chain
 */
export function parseTdxQuote(bytes: Uint8Array): TdxQuote {
  if (bytes.length === 0) refuse('parse/empty', 'the quote is empty');
  if (bytes.length > QUOTE_BYTES_MAX)
    refuse('parse/length', `quote has ${bytes.length} bytes, at most ${QUOTE_BYTES_MAX} are taken`);
  const reader = new ByteReader(bytes);
  const { version, userData } = endingIn('parse/truncated', () =>
    parseHeader(new ByteReader(reader.take(HEADER_BYTES, 'quote header'))),
  );
  const [body, signedBytes, signatureData] = endingIn('parse/truncated', () => {
    const bodyBytes = version === 4 ? TD_REPORT_10_BYTES : parseBodyDescriptor(reader);
    return [
      reader.take(bodyBytes, 'TD report'),
      bytes.subarray(0, reader.offset),
      reader.take(reader.u32le('signature data length'), 'signature data'),
    ] as const;
  });
  return {
    version,
    userData,
    report: parseTdReport(body),
    signedBytes,
    quoteBytes: reader.offset,
    ...endingIn('parse/length', () => parseSignatureData(signatureData)),
  };
}

/** Gives the reader's refusals of what ends too early (or late) their reason. */
function endingIn<T>(reason: 'parse/truncated' | 'parse/length', parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof Refusal || !(error instanceof CfnError)) throw error;
    refuse(reason, error.message);
  }
}

function parseHeader(header: ByteReader): { version: 4 | 5; userData: Uint8Array } {
  const version = header.u16le('quote version');
  const keyType = header.u16le('attestation key type');
  const teeType = header.u32le('TEE type');
  // Version 3 is SGX alone, and has zeros where later ones have the TEE type.
  if (teeType === TEE_TYPE_SGX && version >= 3 && version <= 5)
    refuse('parse/unsupported-tee', 'this is an SGX quote, expected a TDX one');
  if (version !== 4 && version !== 5)
    refuse('parse/unsupported-version', `quote version is ${version}, expected 4 or 5`);
  if (teeType !== TEE_TYPE_TDX) refuse('parse/unsupported-tee', `TEE type is ${teeType}, expected 129 (TDX)`);
  if (keyType !== ATTESTATION_KEY_ECDSA_P256)
    refuse('parse/unsupported-key-type', `attestation key type is ${keyType}, expected 2 (ECDSA P-256)`);
  header.take(4, 'reserved');
  if (!equalBytes(header.take(16, 'QE vendor'), INTEL_QE_VENDOR))
    refuse('parse/unsupported-vendor', "the quoting enclave is not Intel's");
  const userData = header.take(20, 'user data');
  header.finish('quote header');
  return { version, userData };
}

function parseBodyDescriptor(reader: ByteReader): number {
  const type = reader.u16le('body type');
  const size = reader.u32le('body size');
  if (type === BODY_SGX) refuse('parse/unsupported-tee', 'the body is an SGX report, expected a TD report');
  const expected = BODY_BYTES[type] ?? refuse('parse/unsupported-version', `body type ${type} is not a TD report`);
  if (size !== expected) refuse('parse/length', `body of type ${type} has ${size} bytes, expected ${expected}`);
  return size;
}

/** The run of fields about the TD itself, which TD reports and TDREPORT structures share. Taken in this order. */
export function takeTdInfo(reader: ByteReader) {
  return {
    tdAttributes: reader.u64le('TDATTRIBUTES'),
    xfam: reader.u64le('XFAM'),
    mrtd: reader.take(48, 'MRTD'),
    mrconfigid: reader.take(48, 'MRCONFIGID'),
    mrowner: reader.take(48, 'MROWNER'),
    mrownerconfig: reader.take(48, 'MROWNERCONFIG'),
    rtmrs: [
      reader.take(48, 'RTMR0'),
      reader.take(48, 'RTMR1'),
      reader.take(48, 'RTMR2'),
      reader.take(48, 'RTMR3'),
    ] as const,
  };
}

function parseTdReport(bytes: Uint8Array): TdReport {
  const reader = new ByteReader(bytes);
  const report = {
    teeTcbSvn: reader.take(16, 'TEE_TCB_SVN'),
    mrseam: reader.take(48, 'MRSEAM'),
    mrsignerseam: reader.take(48, 'MRSIGNERSEAM'),
    seamAttributes: reader.u64le('SEAMATTRIBUTES'),
    ...takeTdInfo(reader),
    reportData: reader.take(64, 'REPORTDATA'),
  };
  const isReport15 = reader.remaining > 0;
  const teeTcbSvn2 = isReport15 ? reader.take(16, 'TEE_TCB_SVN_2') : undefined;
  const mrservicetd = isReport15 ? reader.take(48, 'MRSERVICETD') : undefined;
  reader.finish('TD report');
  return { ...report, teeTcbSvn2, mrservicetd };
}

function parseSignatureData(bytes: Uint8Array) {
  const reader = new ByteReader(bytes);
  const signature = reader.take(64, 'quote signature');
  const attestationKey = reader.take(64, 'attestation key');
  const certification = takeCertification(reader, CERTIFICATION_QE_REPORT, 'certification data');
  reader.finish('signature data');

  const inner = new ByteReader(certification);
  const qeReport = parseQeReport(inner.take(384, 'QE report'));
  const qeReportSignature = inner.take(64, 'QE report signature');
  const qeAuthenticationData = inner.take(inner.u16le('QE authentication data length'), 'QE authentication data');
  const pem = takeCertification(inner, CERTIFICATION_PEM_CHAIN, 'QE certification data');
  inner.finish('certification data');
  const pckChain = parsePemChain(ascii(pem));
  return { signature, attestationKey, qeReport, qeReportSignature, qeAuthenticationData, pckChain };
}

function takeCertification(reader: ByteReader, expected: number, what: string): Uint8Array {
  const type = reader.u16le(`${what} type`);
  // Other types name the certificate instead of carrying it; looking it up is not a verifier's business.
  if (type !== expected) refuse('parse/unsupported-certification', `${what} has type ${type}, expected ${expected}`);
  return reader.take(reader.u32le(`${what} length`), what);
}

/** PEM is ASCII; what else is in there the PEM parser refuses. */
function ascii(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes);
}

function parseQeReport(bytes: Uint8Array): QeReport {
  const reader = new ByteReader(bytes);
  const cpuSvn = reader.take(16, 'CPUSVN');
  const miscSelect = reader.u32le('MISCSELECT');
  reader.take(28, 'reserved');
  const attributes = reader.take(16, 'ATTRIBUTES');
  reader.take(64, 'MRENCLAVE and reserved');
  const mrsigner = reader.take(32, 'MRSIGNER');
  reader.take(96, 'reserved');
  const isvProdId = reader.u16le('ISVPRODID');
  const isvSvn = reader.u16le('ISVSVN');
  reader.take(60, 'reserved');
  const reportData = reader.take(64, 'QE report data');
  reader.finish('QE report');
  return { bytes, cpuSvn, miscSelect, attributes, mrsigner, isvProdId, isvSvn, reportData };
}
