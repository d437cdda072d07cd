import { ByteReader, CfnError } from '../../proto/index.ts';
import { Refusal, refuse, type Reason } from './reasons.ts';

/** Largest report, in bytes; GPUs' have about 4300. */
const REPORT_BYTES_MAX = 64 * 1024;
const SPDM_VERSION_11 = 0x11;
const GET_MEASUREMENTS = 0xe0;
const MEASUREMENTS = 0x60;
const SIGNATURE_BYTES = 96;
const DMTF = 1;

/** One DMTF measurement. `index` is SPDM's, from 1; reference values (RIMs) count from 0. */
export interface Measurement {
  readonly index: number;
  readonly valueType: number;
  readonly value: Uint8Array;
}

/** SPDM 1.1 GET_MEASUREMENTS request ‖ response (DMTF DSP0274 §10.11), as NVIDIA's devices sign it. Bytes are views. */
export interface SpdmReport {
  /** The requester's 32 bytes. */
  readonly nonce: Uint8Array;
  /** The responder's 32 bytes; no proof of freshness. */
  readonly responderNonce: Uint8Array;
  readonly measurements: readonly Measurement[];
  /** Vendor's fields by type. */
  readonly opaque: ReadonlyMap<number, Uint8Array>;
  /** Request and response up to the signature. */
  readonly signedBytes: Uint8Array;
  /** r ‖ s, P-384, big-endian. */
  readonly signature: Uint8Array;
}

/**
 * Parses a report. The signature is found by the lengths before it; one zero byte may follow it, which one real driver appends.
 *
 * @throws {Refusal} `parse/empty`, `parse/truncated`, `parse/length`, `parse/leftover`, `parse/magic`, `parse/duplicate`,
 *   `parse/unsupported-version`
 */
export function parseSpdmReport(bytes: Uint8Array): SpdmReport {
  if (bytes.length === 0) refuse('parse/empty', 'report is empty');
  if (bytes.length > REPORT_BYTES_MAX)
    refuse('parse/length', `report has ${bytes.length} bytes, at most ${REPORT_BYTES_MAX} are taken`);
  return withReason('parse/truncated', () => parse(bytes));
}

function parse(bytes: Uint8Array): SpdmReport {
  const reader = new ByteReader(bytes);
  expectVersion(reader.u8('SPDM request version'), 'request');
  expect(reader.u8('SPDM request code'), GET_MEASUREMENTS, 'SPDM request code');
  expect(reader.u8('SPDM request attributes'), 0x01, 'SPDM request attributes (signature asked)');
  expect(reader.u8('SPDM measurement operation'), 0xff, 'SPDM measurement operation (all blocks)');
  const nonce = reader.take(32, 'request nonce');
  reader.take(1, 'slot');

  expectVersion(reader.u8('SPDM response version'), 'response');
  expect(reader.u8('SPDM response code'), MEASUREMENTS, 'SPDM response code');
  reader.take(2, 'SPDM response parameters');
  const blocks = reader.u8('number of blocks');
  const recordBytes = reader.u16le('record length') + 0x1_0000 * reader.u8('record length');
  const record = reader.take(recordBytes, 'measurement record');
  const responderNonce = reader.take(32, 'responder nonce');
  const opaque = reader.take(reader.u16le('opaque length'), 'opaque data');
  const signedBytes = bytes.subarray(0, reader.offset);
  const signature = reader.take(SIGNATURE_BYTES, 'signature');
  if (reader.remaining > 1 || (reader.remaining === 1 && reader.u8('padding') !== 0))
    refuse('parse/leftover', `${reader.remaining} bytes follow the signature`);
  return {
    nonce,
    responderNonce,
    measurements: withReason('parse/length', () => parseRecord(record, blocks)),
    opaque: withReason('parse/length', () => parseOpaque(opaque)),
    signedBytes,
    signature,
  };
}

function parseRecord(bytes: Uint8Array, blocks: number): Measurement[] {
  const reader = new ByteReader(bytes);
  const seen = new Set<number>();
  const measurements: Measurement[] = [];
  for (let i = 0; i < blocks; i++) {
    const index = reader.u8('block index');
    if (index === 0 || index === 0xff) refuse('parse/length', `measurement block has the index ${index}`);
    if (seen.has(index)) refuse('parse/duplicate', `measurement block ${index} is there twice`);
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

/** Types that nobody knows are kept; one type twice could say two things. */
function parseOpaque(bytes: Uint8Array): Map<number, Uint8Array> {
  const reader = new ByteReader(bytes);
  const fields = new Map<number, Uint8Array>();
  while (reader.remaining > 0) {
    const type = reader.u16le('opaque type');
    if (fields.has(type)) refuse('parse/duplicate', `opaque field ${type} is there twice`);
    fields.set(type, reader.take(reader.u16le('opaque length'), `opaque field ${type}`));
  }
  return fields;
}

function expectVersion(value: number, what: string): void {
  if (value !== SPDM_VERSION_11)
    refuse('parse/unsupported-version', `SPDM ${what} version is ${value}, expected ${SPDM_VERSION_11}`);
}

function expect(value: number, expected: number, what: string): void {
  if (value !== expected) refuse('parse/magic', `${what} is ${value}, expected ${expected}`);
}

/** Gives a reader's plain error its reason: the outer reader ends with the input, the inner ones where lengths disagree. */
function withReason<T>(reason: Reason, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof CfnError) || error instanceof Refusal) throw error;
    refuse(reason, error.message, { cause: error });
  }
}
