import { ByteReader, fromUtf8 } from '../../proto/index.ts';
import { refuse } from './reasons.ts';

/** The ACPI table that says where a confidential VM's event log is (ACPI 6.5 §5.2.34). The host writes it: it proves nothing. */
export interface CcelTable {
  readonly tee: 'sev' | 'tdx';
  /** Bytes of the log area, fill included. */
  readonly logAreaBytes: bigint;
  /** Physical address of the log area in the guest. */
  readonly logAreaAddress: bigint;
}

const TABLE_BYTES = 56;
const TEES: Readonly<Record<number, CcelTable['tee']>> = { 1: 'sev', 2: 'tdx' };

/** @throws {CfnError} `CFN_EVIDENCE_MALFORMED` */
export function parseCcelTable(bytes: Uint8Array): CcelTable {
  const reader = new ByteReader(bytes);
  const signature = fromUtf8(reader.take(4, 'signature'), 'CFN_EVIDENCE_MALFORMED');
  if (signature !== 'CCEL') refuse('parse/magic', 'ACPI table is not CCEL');
  const length = reader.u32le('table length');
  if (length !== TABLE_BYTES || bytes.length !== TABLE_BYTES)
    refuse('parse/length', `CCEL table has ${bytes.length} bytes and says ${length}, expected ${TABLE_BYTES}`);
  if (bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0) !== 0)
    refuse('parse/length', 'CCEL table: the checksum is wrong');
  const revision = reader.u8('revision');
  if (revision !== 1) refuse('parse/unsupported-version', `CCEL table has revision ${revision}, expected 1`);
  reader.take(27, 'checksum, OEM and creator');
  const type = reader.u8('CC type');
  const tee = TEES[type] ?? refuse('parse/unsupported-tee', `CC type is ${type}, expected 1 (SEV) or 2 (TDX)`);
  reader.take(3, 'CC subtype and reserved');
  const table = { tee, logAreaBytes: reader.u64le('LAML'), logAreaAddress: reader.u64le('LASA') };
  reader.finish('CCEL table');
  return table;
}
