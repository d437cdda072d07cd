import { ByteReader, CfnError, fromUtf8 } from '../../proto/index.ts';

/** One DMTF measurement of an NVIDIA report. `index` is SPDM's, from 1; reference values (RIMs) count from 0. */
interface GpuMeasurement {
  readonly index: number;
  readonly valueType: number;
  readonly value: Uint8Array;
}

/** Types of opaque fields that we name; the others are kept under their number. */
export const OPAQUE = {
  driverVersion: 3,
  vbiosVersion: 6,
  nvdec0: 11,
  project: 17,
  projectSku: 18,
  projectSkuModifier: 19,
  fwid: 20,
  protectedPcie: 21,
  chip: 35,
  featureFlag: 36,
} as const;

/** An attestation report: SPDM 1.1 GET_MEASUREMENTS request ‖ response (DMTF DSP0274 §10.11; attestation-formats §4.1). */
export interface GpuReport {
  /** The requester's 32 bytes. */
  readonly nonce: Uint8Array;
  /** The responder's 32 bytes; no proof of freshness. */
  readonly responderNonce: Uint8Array;
  readonly measurements: readonly GpuMeasurement[];
  readonly opaque: ReadonlyMap<number, Uint8Array>;
  /** Request and response up to the signature. */
  readonly signedBytes: Uint8Array;
  /** r ‖ s, P-384, big-endian. */
  readonly signature: Uint8Array;
  /** From opaque data; `undefined` when the report does not say. */
  readonly driverVersion: string | undefined;
  /** As NVIDIA prints it, such as `96.00.9F.00.01`. */
  readonly vbiosVersion: string | undefined;
  /** SHA-384 of the firmware identity; old drivers leave it out. */
  readonly fwid: Uint8Array | undefined;
}

const SPDM_VERSION_11 = 0x11;
const GET_MEASUREMENTS = 0xe0;
const MEASUREMENTS = 0x60;
const SIGNATURE_BYTES = 96;
const DMTF = 1;

/**
 * Parses a GPU's report. After the signature only zero bytes may follow; one real driver appends one.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseGpuReport(bytes: Uint8Array): GpuReport {
  const reader = new ByteReader(bytes);
  expect(reader.u8('SPDM request version'), SPDM_VERSION_11, 'SPDM request version');
  expect(reader.u8('SPDM request code'), GET_MEASUREMENTS, 'SPDM request code');
  expect(reader.u8('SPDM request attributes'), 0x01, 'SPDM request attributes (signature asked)');
  expect(reader.u8('SPDM measurement operation'), 0xff, 'SPDM measurement operation (all blocks)');
  const nonce = reader.take(32, 'request nonce');
  reader.take(1, 'slot');

  expect(reader.u8('SPDM response version'), SPDM_VERSION_11, 'SPDM response version');
  expect(reader.u8('SPDM response code'), MEASUREMENTS, 'SPDM response code');
  reader.take(2, 'SPDM response parameters');
  const blocks = reader.u8('number of blocks');
  const recordBytes = reader.u16le('record length') + 0x1_0000 * reader.u8('record length');
  const measurements = parseRecord(reader.take(recordBytes, 'measurement record'), blocks);
  const responderNonce = reader.take(32, 'responder nonce');
  const opaque = parseOpaque(reader.take(reader.u16le('opaque length'), 'opaque data'));
  const signedBytes = bytes.subarray(0, reader.offset);
  const signature = reader.take(SIGNATURE_BYTES, 'signature');
  if (reader.take(reader.remaining, 'padding').some((byte) => byte !== 0))
    throw malformed('bytes follow the signature');

  return {
    nonce,
    responderNonce,
    measurements,
    opaque,
    signedBytes,
    signature,
    driverVersion: asciiField(opaque.get(OPAQUE.driverVersion)),
    vbiosVersion: printVbios(opaque.get(OPAQUE.vbiosVersion)),
    fwid: opaque.get(OPAQUE.fwid),
  };
}

function parseRecord(bytes: Uint8Array, blocks: number): GpuMeasurement[] {
  const reader = new ByteReader(bytes);
  const seen = new Set<number>();
  const measurements: GpuMeasurement[] = [];
  for (let i = 0; i < blocks; i++) {
    const index = reader.u8('block index');
    if (index === 0 || seen.has(index)) throw malformed(`measurement block ${index} is there twice, or zero`);
    seen.add(index);
    expect(reader.u8('block specification'), DMTF, 'block specification');
    const block = new ByteReader(reader.take(reader.u16le('block size'), `block ${index}`));
    const valueType = block.u8('value type');
    const value = block.take(block.u16le('value size'), `value of block ${index}`);
    block.finish(`block ${index}`);
    measurements.push({ index, valueType, value });
  }
  reader.finish('measurement record');
  return measurements;
}

function parseOpaque(bytes: Uint8Array): Map<number, Uint8Array> {
  const reader = new ByteReader(bytes);
  const fields = new Map<number, Uint8Array>();
  while (reader.remaining > 0) {
    const type = reader.u16le('opaque type');
    if (fields.has(type)) throw malformed(`opaque field ${type} is there twice`);
    fields.set(type, reader.take(reader.u16le('opaque length'), `opaque field ${type}`));
  }
  return fields;
}

function asciiField(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const text = fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED').replace(/\0+$/, '');
  if (!/^[\x20-\x7e]*$/.test(text)) throw malformed('opaque text is not ASCII');
  return text;
}

function printVbios(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const reader = new ByteReader(bytes);
  const [b0, b1, b2, b3, b4] = Array.from({ length: 5 }, () => reader.u8('VBIOS version'));
  return [b3, b2, b1, b0, b4].map((byte) => (byte ?? 0).toString(16).padStart(2, '0').toUpperCase()).join('.');
}

function expect(value: number, expected: number, what: string): void {
  if (value !== expected) throw malformed(`${what} is ${value}, expected ${expected}`);
}

function malformed(message: string): CfnError {
  return new CfnError('CFN_EVIDENCE_MALFORMED', message);
}
