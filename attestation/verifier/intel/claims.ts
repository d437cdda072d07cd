import { toHex } from '../../../proto/index.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import type { PckCertificate } from './quote.ts';
import type { TcbClaims } from './tcb.ts';

/** What a TDX quote says; plain JSON. Bytes are hexadecimal; the 64-bit fields are numbers in 16 hexadecimal digits. */
export interface TdxClaims {
  readonly quoteVersion: 4 | 5;
  readonly tdReportVersion: '1.0' | '1.5';
  readonly teeTcbSvn: string;
  readonly mrseam: string;
  readonly mrsignerseam: string;
  readonly seamAttributes: string;
  readonly tdAttributes: string;
  readonly xfam: string;
  readonly mrtd: string;
  readonly mrconfigid: string;
  readonly mrowner: string;
  readonly mrownerconfig: string;
  readonly rtmrs: readonly string[];
  readonly reportData: string;
  /** `null` in a TD report 1.0. */
  readonly teeTcbSvn2: string | null;
  readonly mrservicetd: string | null;
  readonly fmspc: string;
  readonly pceId: string;
  readonly pceSvn: number;
  /** The sixteen component SVNs of the PCK certificate. */
  readonly cpuSvnComponents: readonly number[];
  readonly qeIsvSvn: number;
  /** `null` when it was not, or could not be, compared with Intel's levels. */
  readonly tcb: TcbClaims | null;
}

export function tdxClaims(
  { version, report, qeReport }: TdxQuote,
  { extension }: PckCertificate,
  tcb: TcbClaims | null,
): TdxClaims {
  const { teeTcbSvn2, mrservicetd } = report;
  return {
    quoteVersion: version,
    tdReportVersion: teeTcbSvn2 === undefined ? '1.0' : '1.5',
    teeTcbSvn: toHex(report.teeTcbSvn),
    mrseam: toHex(report.mrseam),
    mrsignerseam: toHex(report.mrsignerseam),
    seamAttributes: u64(report.seamAttributes),
    tdAttributes: u64(report.tdAttributes),
    xfam: u64(report.xfam),
    mrtd: toHex(report.mrtd),
    mrconfigid: toHex(report.mrconfigid),
    mrowner: toHex(report.mrowner),
    mrownerconfig: toHex(report.mrownerconfig),
    rtmrs: report.rtmrs.map(toHex),
    reportData: toHex(report.reportData),
    teeTcbSvn2: teeTcbSvn2 === undefined ? null : toHex(teeTcbSvn2),
    mrservicetd: mrservicetd === undefined ? null : toHex(mrservicetd),
    fmspc: toHex(extension.fmspc),
    pceId: toHex(extension.pceId),
    pceSvn: extension.pceSvn,
    cpuSvnComponents: extension.tcbComponents,
    qeIsvSvn: qeReport.isvSvn,
    tcb,
  };
}

function u64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
