import { CfnError, type ErrorCode } from '../../proto/index.ts';

/**
 * Why evidence is refused: the failure catalogue. A reason tells what is wrong more finely than the error code, which tells who has to
 * act. Reasons are API, like codes.
 */
export const REASONS = {
  // Parsing
  'parse/empty': 'CFN_EVIDENCE_MALFORMED',
  'parse/truncated': 'CFN_EVIDENCE_MALFORMED',
  'parse/length': 'CFN_EVIDENCE_MALFORMED',
  'parse/leftover': 'CFN_EVIDENCE_MALFORMED',
  'parse/magic': 'CFN_EVIDENCE_MALFORMED',
  'parse/duplicate': 'CFN_EVIDENCE_MALFORMED',
  'parse/reserved': 'CFN_EVIDENCE_MALFORMED',
  'parse/unsupported-version': 'CFN_EVIDENCE_MALFORMED',
  'parse/unsupported-key-type': 'CFN_EVIDENCE_MALFORMED',
  'parse/unsupported-tee': 'CFN_EVIDENCE_MALFORMED',
  'parse/unsupported-algorithm': 'CFN_EVIDENCE_MALFORMED',
  'parse/pem': 'CFN_EVIDENCE_MALFORMED',
  'parse/der': 'CFN_EVIDENCE_MALFORMED',
  'parse/json': 'CFN_EVIDENCE_MALFORMED',
  'parse/xml': 'CFN_EVIDENCE_MALFORMED',
  'parse/doctype': 'CFN_EVIDENCE_MALFORMED',
  'parse/unknown-input': 'CFN_EVIDENCE_MALFORMED',
  // Certificates
  'certificate/untrusted-root': 'CFN_CHAIN_UNTRUSTED',
  'certificate/broken-link': 'CFN_CHAIN_INVALID',
  'certificate/missing-intermediate': 'CFN_CHAIN_INVALID',
  'certificate/wrong-role': 'CFN_CHAIN_INVALID',
  'certificate/wrong-product': 'CFN_CHAIN_INVALID',
  'certificate/ca-flag': 'CFN_CHAIN_INVALID',
  'certificate/not-yet-valid': 'CFN_CHAIN_INVALID',
  'certificate/expired': 'CFN_CHAIN_INVALID',
  'certificate/revoked': 'CFN_CHAIN_INVALID',
  // Revocation data
  'revocation/missing': 'CFN_REVOCATION_UNKNOWN',
  'revocation/signature': 'CFN_REVOCATION_UNKNOWN',
  'revocation/wrong-issuer': 'CFN_REVOCATION_UNKNOWN',
  'revocation/not-yet-valid': 'CFN_REVOCATION_UNKNOWN',
  'revocation/stale': 'CFN_REVOCATION_UNKNOWN',
  'revocation/status-unknown': 'CFN_REVOCATION_UNKNOWN',
  'revocation/hold': 'CFN_CHAIN_INVALID',
  'revocation/nonce-missing': 'CFN_REVOCATION_UNKNOWN',
  // Collateral
  'collateral/missing': 'CFN_ENDORSEMENT_INVALID',
  'collateral/tcb-info-signature': 'CFN_ENDORSEMENT_INVALID',
  'collateral/qe-identity-signature': 'CFN_ENDORSEMENT_INVALID',
  'collateral/not-yet-valid': 'CFN_ENDORSEMENT_INVALID',
  'collateral/expired': 'CFN_ENDORSEMENT_INVALID',
  'collateral/wrong-id': 'CFN_ENDORSEMENT_INVALID',
  'collateral/wrong-version': 'CFN_ENDORSEMENT_INVALID',
  'collateral/fmspc-mismatch': 'CFN_ENDORSEMENT_INVALID',
  'collateral/pceid-mismatch': 'CFN_ENDORSEMENT_INVALID',
  'collateral/evaluation-number': 'CFN_ENDORSEMENT_INVALID',
  'collateral/rim-missing': 'CFN_ENDORSEMENT_INVALID',
  'collateral/rim-signature': 'CFN_ENDORSEMENT_INVALID',
  'collateral/rim-product': 'CFN_ENDORSEMENT_INVALID',
  'collateral/rim-version': 'CFN_ENDORSEMENT_INVALID',
  'collateral/rim-empty': 'CFN_ENDORSEMENT_INVALID',
  // Evidence
  'evidence/quote-signature': 'CFN_QUOTE_SIGNATURE',
  'evidence/qe-report-signature': 'CFN_QE_BINDING',
  'evidence/attestation-key-binding': 'CFN_QE_BINDING',
  'evidence/report-signature': 'CFN_QUOTE_SIGNATURE',
  'evidence/chip-id-mismatch': 'CFN_CHAIN_INVALID',
  'evidence/spl-mismatch': 'CFN_CHAIN_INVALID',
  'evidence/gpu-report-signature': 'CFN_GPU_EVIDENCE',
  'evidence/fwid-mismatch': 'CFN_GPU_EVIDENCE',
  'evidence/fwid-unavailable': 'CFN_GPU_EVIDENCE',
  'evidence/tpm-signature': 'CFN_QUOTE_SIGNATURE',
  'evidence/tpm-magic': 'CFN_EVIDENCE_MALFORMED',
  'evidence/pcr-digest': 'CFN_QUOTE_SIGNATURE',
  'evidence/event-log-replay': 'CFN_MEASUREMENT_UNKNOWN',
  'evidence/runtime-data-hash': 'CFN_REPORT_DATA_MISMATCH',
  'evidence/token-signature': 'CFN_TOKEN_REFUSED',
  'evidence/token-kid-unknown': 'CFN_TOKEN_REFUSED',
  'evidence/token-algorithm': 'CFN_TOKEN_REFUSED',
  'evidence/token-issuer': 'CFN_TOKEN_REFUSED',
  'evidence/token-expired': 'CFN_TOKEN_REFUSED',
  'evidence/token-not-yet-valid': 'CFN_TOKEN_REFUSED',
  'evidence/token-claims': 'CFN_TOKEN_REFUSED',
  'evidence/token-result': 'CFN_TOKEN_REFUSED',
  'evidence/submodule-set': 'CFN_TOKEN_REFUSED',
  'evidence/submodule-digest': 'CFN_TOKEN_REFUSED',
  // Identity and TCB
  'tcb/qe-identity': 'CFN_QE_BINDING',
  'tcb/qe-svn': 'CFN_TCB_REFUSED',
  'tcb/module-unknown': 'CFN_TD_ATTRIBUTES',
  'tcb/module-signer': 'CFN_TD_ATTRIBUTES',
  'tcb/no-level': 'CFN_TCB_REFUSED',
  'tcb/sw-hardening-needed': 'CFN_TCB_REFUSED',
  'tcb/configuration-needed': 'CFN_TCB_REFUSED',
  'tcb/configuration-and-sw-hardening-needed': 'CFN_TCB_REFUSED',
  'tcb/out-of-date': 'CFN_TCB_REFUSED',
  'tcb/out-of-date-configuration-needed': 'CFN_TCB_REFUSED',
  'tcb/relaunch-advised': 'CFN_TCB_REFUSED',
  'tcb/relaunch-advised-configuration-needed': 'CFN_TCB_REFUSED',
  'tcb/revoked': 'CFN_TCB_REFUSED',
  'tcb/below-minimum': 'CFN_TCB_REFUSED',
  'tcb/provisional': 'CFN_TCB_REFUSED',
  'reference/mismatch': 'CFN_MEASUREMENT_UNKNOWN',
  'reference/conflict': 'CFN_MEASUREMENT_UNKNOWN',
  'reference/missing-index': 'CFN_MEASUREMENT_UNKNOWN',
  // Policy
  'policy/tee-kind': 'CFN_TEE_REFUSED',
  'policy/debug': 'CFN_DEBUG_ENABLED',
  'policy/migration': 'CFN_TD_ATTRIBUTES',
  'policy/attributes': 'CFN_TD_ATTRIBUTES',
  'policy/xfam': 'CFN_TD_ATTRIBUTES',
  'policy/vmpl': 'CFN_TD_ATTRIBUTES',
  'policy/platform-info': 'CFN_TD_ATTRIBUTES',
  'policy/measurement': 'CFN_MEASUREMENT_UNKNOWN',
  'policy/service-td': 'CFN_MEASUREMENT_UNKNOWN',
  'policy/minimum-version': 'CFN_MEASUREMENT_UNKNOWN',
  'policy/gpu-count': 'CFN_GPU_EVIDENCE',
  'policy/gpu-duplicate': 'CFN_GPU_EVIDENCE',
  'policy/gpu-family': 'CFN_GPU_EVIDENCE',
  'policy/gpu-mode': 'CFN_GPU_EVIDENCE',
  'policy/gpu-topology': 'CFN_GPU_EVIDENCE',
  // Binding
  'binding/nonce-mismatch': 'CFN_NONCE_MISMATCH',
  'binding/nonce-empty': 'CFN_NONCE_MISMATCH',
  'binding/report-data': 'CFN_REPORT_DATA_MISMATCH',
  'binding/channel-key': 'CFN_CHANNEL_MISMATCH',
  'binding/gpu-digest': 'CFN_REPORT_DATA_MISMATCH',
  'binding/gpu-nonce': 'CFN_NONCE_MISMATCH',
  'binding/level': 'CFN_REPORT_DATA_MISMATCH',
  'binding/keys-expired': 'CFN_WORKER_KEYS_EXPIRED',
} as const satisfies Record<string, ErrorCode>;

export type Reason = keyof typeof REASONS;

/** A refusal with its reason. `message` says what was expected and what came; values of evidence are public. */
export class Refusal extends CfnError {
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(REASONS[reason], message, options);
    this.reason = reason;
  }
}

export function refuse(reason: Reason, message: string, options?: ErrorOptions): never {
  throw new Refusal(reason, message, options);
}
