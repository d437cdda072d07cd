import { ByteReader } from '../../proto/index.ts';
import { refuse } from './reasons.ts';
import { takeTdInfo } from './tdx.ts';

/**
 * TDREPORT_STRUCT, which the TDX module makes and the quoting enclave turns into a quote. Its MAC can only be checked on the machine
 * that made it, so by itself it proves nothing to others.
 */
export interface TdReportStruct {
  readonly reportData: Uint8Array;
  /** TEE_TCB_INFO. */
  readonly teeTcbSvn: Uint8Array;
  readonly mrseam: Uint8Array;
  readonly mrsignerseam: Uint8Array;
  readonly seamAttributes: bigint;
  readonly teeTcbSvn2: Uint8Array;
  /** TDINFO. */
  readonly tdAttributes: bigint;
  readonly xfam: bigint;
  readonly mrtd: Uint8Array;
  readonly mrconfigid: Uint8Array;
  readonly mrowner: Uint8Array;
  readonly mrownerconfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly mrservicetd: Uint8Array;
}

export const TD_REPORT_STRUCT_BYTES = 1024;
const TYPE_TDX = 0x81;

/**
 * Parses TDREPORT_STRUCT (Intel TDX Module ABI specification, §4.7), little endian.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseTdReportStruct(bytes: Uint8Array): TdReportStruct {
  const reader = new ByteReader(bytes);
  const type = reader.u8('report type');
  if (type !== TYPE_TDX) refuse('parse/unsupported-tee', `report type is ${type}, expected 129 (TDX)`);
  reader.take(127, 'report subtype, CPUSVN and hashes');
  const reportData = reader.take(64, 'REPORTDATA');
  reader.take(64, 'reserved and MAC');
  reader.take(8, 'TEE_TCB_INFO valid');
  const tcb = {
    teeTcbSvn: reader.take(16, 'TEE_TCB_SVN'),
    mrseam: reader.take(48, 'MRSEAM'),
    mrsignerseam: reader.take(48, 'MRSIGNERSEAM'),
    seamAttributes: reader.u64le('SEAMATTRIBUTES'),
    teeTcbSvn2: reader.take(16, 'TEE_TCB_SVN_2'),
  };
  reader.take(95 + 17, 'reserved');
  const info = {
    ...takeTdInfo(reader),
    mrservicetd: reader.take(48, 'SERVTD_HASH'),
  };
  reader.take(64, 'reserved');
  reader.finish('TDREPORT');
  return { reportData, ...tcb, ...info };
}
