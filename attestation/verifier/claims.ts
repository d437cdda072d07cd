import { toHex } from '../../proto/index.ts';
import { parseSgxExtension } from '../evidence/pck.ts';
import type { Case } from './rule.ts';

/** What verified evidence says, for people and logs; values are hexadecimal unless they are versions. */
export interface Claims {
  readonly mrtd: string;
  readonly mrseam: string;
  readonly rtmrs: readonly string[];
  readonly mrconfigid: string;
  readonly mrowner: string;
  readonly mrownerconfig: string;
  readonly tdAttributes: string;
  readonly xfam: string;
  readonly teeTcbSvn: string;
  /** Platform: FMSPC, and the security version of its provisioning enclave. */
  readonly fmspc: string;
  readonly pceSvn: number;
  /** Only GPUs that the policy had checked. */
  readonly gpus: readonly {
    readonly arch: string;
    /** Common name of the device certificate. */
    readonly device: string;
    readonly driverVersion: string | undefined;
    readonly vbiosVersion: string | undefined;
  }[];
}

export function collectClaims({ quote, pckLeaf, gpus }: Case): Claims {
  const { report } = quote;
  const { fmspc, pceSvn } = parseSgxExtension(pckLeaf);
  return {
    mrtd: toHex(report.mrtd),
    mrseam: toHex(report.mrseam),
    rtmrs: report.rtmrs.map(toHex),
    mrconfigid: toHex(report.mrconfigid),
    mrowner: toHex(report.mrowner),
    mrownerconfig: toHex(report.mrownerconfig),
    tdAttributes: report.tdAttributes.toString(16).padStart(16, '0'),
    xfam: report.xfam.toString(16).padStart(16, '0'),
    teeTcbSvn: toHex(report.teeTcbSvn),
    fmspc: toHex(fmspc),
    pceSvn,
    gpus: gpus.map(({ arch, leaf, report: { driverVersion, vbiosVersion } }) => ({
      arch,
      device: leaf.subjectCommonName,
      driverVersion,
      vbiosVersion,
    })),
  };
}
