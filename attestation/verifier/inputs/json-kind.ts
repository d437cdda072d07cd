import { isProviderReport } from './provider-report.ts';

/** Kinds of JSON that carry evidence or endorsements. */
export type JsonKind =
  | 'evidence-document'
  | 'nras-answer'
  | 'jwks'
  | 'tpm-evidence'
  | 'intel-collateral'
  | 'tcb-info'
  | 'qe-identity'
  | 'trust-authority-bundle'
  | 'worker-capture'
  | 'gpu-evidence'
  | 'rim-answer'
  | 'certificate-list'
  | 'provider-report';

/** By the names of members, as the senders of each form chose them; undefined for another form. */
export function jsonKind(json: unknown): JsonKind | undefined {
  if (Array.isArray(json)) {
    if (isOverallToken(json[0])) return 'nras-answer';
    return json.length > 0 && json.every((item) => has(item, 'certificate', 'evidence')) ? 'gpu-evidence' : undefined;
  }
  if (has(json, 'format') && typeof json['format'] === 'string' && json['format'].startsWith('cfn/evidence/'))
    return 'evidence-document';
  const form = FORMS.find(([, ...members]) => has(json, ...members))?.[0];
  return form ?? (isProviderReport(json) ? 'provider-report' : undefined);
}

const FORMS: readonly (readonly [JsonKind, ...string[]])[] = [
  ['worker-capture', 'cpu', 'report_data'],
  ['intel-collateral', 'tcb_info', 'qe_identity'],
  ['tcb-info', 'tcbInfo', 'signature'],
  ['qe-identity', 'enclaveIdentity', 'signature'],
  ['tpm-evidence', 'tpm_quote'],
  ['tpm-evidence', 'quote', 'report', 'vcek'],
  ['tpm-evidence', 'message', 'signature', 'pcrs'],
  ['trust-authority-bundle', 'tdx'],
  ['gpu-evidence', 'evidence_list'],
  ['gpu-evidence', 'evidences'],
  ['gpu-evidence', 'certificate', 'evidence'],
  ['rim-answer', 'rim'],
  ['jwks', 'keys'],
  ['certificate-list', 'x5c'],
];

function isOverallToken(value: unknown): boolean {
  return Array.isArray(value) && value[0] === 'JWT' && typeof value[1] === 'string';
}

function has(value: unknown, ...members: readonly string[]): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && members.every((member) => Object.hasOwn(value, member));
}
