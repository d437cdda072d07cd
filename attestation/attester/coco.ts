import { fromBase64url, utf8, type Evidence } from '../../proto/index.ts';
import { readSnpReport } from '../evidence/snp-json.ts';
import type { BoundEvidence } from './attester.ts';

/** Evidence as the attesters of Confidential Containers write it, which brokers read. */
export interface CocoDocument {
  /** `sample` for a simulated platform: to brokers, evidence that nobody signed. The quote under its root is there for ours. */
  readonly tee: 'tdx' | 'snp' | 'sample';
  readonly primary: object;
}

/** @param reportData what the evidence is over */
export function cocoEvidence({ tee, quote, endorsements }: BoundEvidence, reportData: Uint8Array): CocoDocument {
  switch (tee) {
    case 'tdx':
      return { tee, primary: { cc_eventlog: null, quote: toBase64(quote) } };
    case 'snp': {
      const chain = endorsements.amd.certificates.map((der) => ({ cert_type: 'VCEK', data: [...fromBase64url(der)] }));
      return {
        tee,
        primary: { attestation_report: readSnpReport(quote), cert_chain: chain.length === 0 ? null : chain },
      };
    }
    case 'simulated':
      return { tee: 'sample', primary: { svn: '1', report_data: toBase64(reportData), quote: toBase64(quote) } };
  }
}

/** The kind that a client says it is, before there is evidence. */
export const cocoKind = (tee: Evidence['tee']): CocoDocument['tee'] => (tee === 'simulated' ? 'sample' : tee);

/** Evidence of all GPUs as the text that report data covers; '' for none. */
export function cocoDevices(gpus: Evidence['gpus']): string {
  if (gpus.length === 0) return '';
  const devices = gpus.map(({ arch, report, certificates }) => ({
    arch,
    uuid: 'unknown',
    evidence: toBase64(fromBase64url(report)),
    certificate: toBase64(utf8(certificates)),
  }));
  return JSON.stringify({ nvidia: { device_evidence_list: devices } });
}

const toBase64 = (bytes: Uint8Array): string => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
