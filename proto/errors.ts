/** Who has to act on an error: the caller, the system (retry), or nobody (trust: stop, nothing was sent or released). */
export type Fault = 'caller' | 'system' | 'trust';

interface ErrorEntry {
  readonly fault: Fault;
  /** HTTP status the error is answered with. */
  readonly status: number;
  readonly remedy: string;
}

/** The one table of errors. Codes are API; messages are not. `docs/errors.md` is made from it. */
export const ERRORS = {
  // Calls
  CFN_INPUT_INVALID: { fault: 'caller', status: 400, remedy: 'Correct the field named in the message.' },
  CFN_USAGE: { fault: 'caller', status: 400, remedy: 'See `cfn --help`.' },
  CFN_CONFIG_INVALID: {
    fault: 'caller',
    status: 400,
    remedy: 'Correct the line of `wrangler-style.toml` named in the message.',
  },
  CFN_BUNDLE_FAILED: { fault: 'caller', status: 400, remedy: 'Correct the source error named in the message.' },
  CFN_TOKEN_INVALID: {
    fault: 'caller',
    status: 401,
    remedy: 'Get a new token or API key from whoever runs the service, and pass it with --token or CFN_TOKEN.',
  },
  CFN_TOKEN_SCOPE: { fault: 'caller', status: 403, remedy: 'Use a token whose tenant and role allow this call.' },
  CFN_NOT_FOUND: { fault: 'caller', status: 404, remedy: 'Check the path.' },
  CFN_TENANT_NOT_FOUND: {
    fault: 'caller',
    status: 404,
    remedy: 'Check the tenant in the path; an operator makes tenants.',
  },
  CFN_FUNCTION_NOT_FOUND: {
    fault: 'caller',
    status: 404,
    remedy: 'Deploy it with `cfn deploy`, or check the name in the path.',
  },
  CFN_MODEL_NOT_FOUND: {
    fault: 'caller',
    status: 404,
    remedy: 'Push it with `cfn model push`, or check owner/name@version.',
  },
  CFN_BLOB_NOT_FOUND: {
    fault: 'caller',
    status: 404,
    remedy: 'Push the model again; the blob store does not hold this digest.',
  },
  CFN_RECEIPT_NOT_FOUND: {
    fault: 'caller',
    status: 404,
    remedy: 'Check the request id; receipts are kept for the retention time only.',
  },
  CFN_BATCH_NOT_SEALED: {
    fault: 'system',
    status: 503,
    remedy: 'The hour of this receipt is not sealed yet; ask again some minutes after its end.',
  },
  CFN_CONFLICT: {
    fault: 'caller',
    status: 409,
    remedy: 'It exists already with other content; choose another name or version.',
  },
  CFN_QUOTA_EXCEEDED: {
    fault: 'caller',
    status: 429,
    remedy:
      'The namespace or tenant is at the quota named in the message; use less, or ask whoever runs the KMS or the gateway for more.',
  },
  CFN_BODY_TOO_LARGE: { fault: 'caller', status: 413, remedy: 'Send a smaller body; the limit is in the message.' },
  CFN_PLAINTEXT_REFUSED: {
    fault: 'caller',
    status: 403,
    remedy: 'This function takes sealed requests only: use the client SDK or `cfn invoke`.',
  },
  CFN_REQUEST_MALFORMED: { fault: 'caller', status: 400, remedy: 'Send a well-formed encapsulated request.' },
  CFN_KEY_CONFIG_STALE: {
    fault: 'caller',
    status: 422,
    remedy: 'Fetch the attestation document again, verify it, and seal again.',
  },
  CFN_REQUEST_REPLAYED: { fault: 'caller', status: 409, remedy: 'Seal a new request; each may be used once.' },
  CFN_REQUEST_EXPIRED: { fault: 'caller', status: 408, remedy: 'Check the clock, and seal a new request.' },
  CFN_VERSION_MISMATCH: {
    fault: 'trust',
    status: 409,
    remedy: 'The gateway routed to another version than the one sealed for. Fetch the attestation document again.',
  },
  // Functions
  CFN_FUNCTION_THREW: {
    fault: 'caller',
    status: 500,
    remedy:
      'The function threw. What it threw stays in the sandbox: its author can catch it and answer with what callers may read.',
  },
  CFN_FUNCTION_NO_RESPONSE: { fault: 'caller', status: 500, remedy: 'The handler must return a Response.' },
  CFN_FUNCTION_INVALID: {
    fault: 'caller',
    status: 400,
    remedy: 'The bundle must have a default export with a fetch handler, and evaluate without error.',
  },
  CFN_LIMIT_CPU: { fault: 'caller', status: 503, remedy: 'The function used more CPU than limits.cpu_ms.' },
  CFN_LIMIT_WALL: { fault: 'caller', status: 504, remedy: 'The function took longer than limits.wall_ms.' },
  CFN_LIMIT_MEMORY: { fault: 'caller', status: 503, remedy: 'The function used more memory than limits.memory_mb.' },
  CFN_LIMIT_RESPONSE: { fault: 'caller', status: 502, remedy: 'The answer was larger than the limit in the message.' },
  CFN_MODEL_INPUT: {
    fault: 'caller',
    status: 400,
    remedy: 'Feed the inputs that env.MODEL.inputs lists, with matching types and shapes.',
  },
  // System
  CFN_SANDBOX_LOST: { fault: 'system', status: 503, remedy: 'The sandbox process ended; retry.' },
  CFN_ENGINE_LOST: { fault: 'system', status: 503, remedy: 'The engine process ended; retry.' },
  CFN_ENGINE_FAILED: { fault: 'system', status: 502, remedy: 'The model could not be loaded or run; see the message.' },
  CFN_WORKER_UNAVAILABLE: {
    fault: 'system',
    status: 503,
    remedy: 'No admitted worker can take this request now; retry with backoff.',
  },
  CFN_WORKER_LOST: {
    fault: 'system',
    status: 502,
    remedy: 'The worker went away during the request; retry by sealing again.',
  },
  CFN_GATEWAY_UNREACHABLE: {
    fault: 'system',
    status: 503,
    remedy: 'Check the gateway URL and that it runs; retry with backoff.',
  },
  CFN_RATE_LIMITED: {
    fault: 'system',
    status: 429,
    remedy: 'Retry after the time in Retry-After; the limits are the operator’s to set, and the tenant’s to share.',
  },
  CFN_ISSUER_UNREACHABLE: {
    fault: 'system',
    status: 503,
    remedy: 'Retry with backoff; the identity provider of the token does not give its keys.',
  },
  CFN_KMS_UNREACHABLE: {
    fault: 'system',
    status: 503,
    remedy: 'Check the KMS URL and that it runs; retry with backoff.',
  },
  CFN_ALLOWANCE_WAITING: {
    fault: 'system',
    status: 503,
    remedy: "What is left of the grant's invocations is held by other workers; retry with backoff.",
  },
  CFN_BLOB_UNREACHABLE: { fault: 'system', status: 503, remedy: 'Check the blob store; retry with backoff.' },
  CFN_VENDOR_UNREACHABLE: {
    fault: 'system',
    status: 503,
    remedy:
      "Retry with backoff; a vendor's service (Intel, AMD, NVIDIA) did not answer, or not with what it should. Recorded endorsements need none.",
  },
  CFN_QUOTE_UNAVAILABLE: {
    fault: 'system',
    status: 503,
    remedy: 'The quoting service did not answer; retry with backoff, and check it on the host.',
  },
  CFN_GPU_UNAVAILABLE: {
    fault: 'system',
    status: 503,
    remedy: 'NVML or a GPU did not answer; check the driver with `nvidia-smi conf-compute -q`, and retry with backoff.',
  },
  CFN_BUSY: { fault: 'system', status: 503, remedy: 'The worker is at its limit; retry with backoff.' },
  CFN_LEDGER_BEHIND: {
    fault: 'system',
    status: 503,
    remedy:
      'The gateway has not acknowledged receipts of this worker, which takes no work meanwhile; retry with backoff, check the store.',
  },
  CFN_DEADLINE: { fault: 'system', status: 504, remedy: 'The deadline passed; retry.' },
  CFN_STORE_FAILED: {
    fault: 'system',
    status: 500,
    remedy: 'Check disk space and permissions of the state folder, or that the shared Redis answers.',
  },
  CFN_ROOT_KEY_UNREACHABLE: {
    fault: 'system',
    status: 503,
    remedy: 'The HSM or transit service with the root key does not answer; retry with backoff, and check it.',
  },
  CFN_ABORTED: { fault: 'system', status: 499, remedy: 'The caller went away.' },
  CFN_INTERNAL: { fault: 'system', status: 500, remedy: 'This is a bug; report it with the request id.' },
  // Trust
  CFN_RESPONSE_TRUNCATED: {
    fault: 'trust',
    status: 502,
    remedy: 'The sealed answer ended early; discard it and retry.',
  },
  CFN_RESPONSE_MALFORMED: { fault: 'trust', status: 502, remedy: 'The sealed answer does not open; discard it.' },
  CFN_ARTIFACT_ALTERED: {
    fault: 'trust',
    status: 422,
    remedy: 'The model package was cut, reordered, swapped or changed; push it again from the source.',
  },
  CFN_MANIFEST_ALTERED: {
    fault: 'trust',
    status: 422,
    remedy: 'Manifest or bundle differ from what the author signed; deploy again from the source.',
  },
  CFN_EVIDENCE_MALFORMED: { fault: 'trust', status: 422, remedy: 'The evidence cannot be parsed; collect it again.' },
  CFN_CHAIN_UNTRUSTED: {
    fault: 'trust',
    status: 403,
    remedy: 'The certificate chain does not end at a root that the policy names.',
  },
  CFN_CHAIN_INVALID: {
    fault: 'trust',
    status: 403,
    remedy: 'A certificate of the chain is broken, of the wrong role, or not valid now.',
  },
  CFN_REVOCATION_UNKNOWN: {
    fault: 'trust',
    status: 403,
    remedy: 'Revocation data is missing, stale or not authentic; get fresh CRLs or OCSP answers.',
  },
  CFN_ENDORSEMENT_INVALID: {
    fault: 'trust',
    status: 403,
    remedy: "The vendor's collateral is missing, out of date, not authentic or of another platform; fetch it again.",
  },
  CFN_TCB_REFUSED: {
    fault: 'trust',
    status: 403,
    remedy:
      'The platform runs firmware that the policy does not accept; update it, or accept its status in the policy.',
  },
  CFN_TOKEN_REFUSED: { fault: 'trust', status: 403, remedy: 'The attestation token does not verify; see the message.' },
  CFN_QUOTE_SIGNATURE: { fault: 'trust', status: 403, remedy: 'The quote was altered or signed by another key.' },
  CFN_QE_BINDING: {
    fault: 'trust',
    status: 403,
    remedy: 'The quoting enclave does not vouch for the attestation key.',
  },
  CFN_GPU_EVIDENCE: { fault: 'trust', status: 403, remedy: 'The GPU report does not verify; see the message.' },
  CFN_NONCE_MISMATCH: {
    fault: 'trust',
    status: 403,
    remedy: 'The evidence answers another challenge; ask again with a fresh nonce.',
  },
  CFN_REPORT_DATA_MISMATCH: {
    fault: 'trust',
    status: 403,
    remedy: 'The quote does not bind this nonce, these keys and this GPU evidence.',
  },
  CFN_MEASUREMENT_UNKNOWN: {
    fault: 'trust',
    status: 403,
    remedy: 'Compare the measurement with the published reference values.',
  },
  CFN_DEBUG_ENABLED: { fault: 'trust', status: 403, remedy: 'The trust domain runs with debugging; start it without.' },
  CFN_TD_ATTRIBUTES: {
    fault: 'trust',
    status: 403,
    remedy: 'The trust domain or its TDX module has attributes that production does not allow; see the message.',
  },
  CFN_TEE_REFUSED: { fault: 'trust', status: 403, remedy: 'The policy does not accept this TEE kind.' },
  CFN_POLICY_INVALID: {
    fault: 'caller',
    status: 400,
    remedy: 'Correct the field of the appraisal policy named in the message.',
  },
  CFN_WORKER_KEYS_EXPIRED: {
    fault: 'trust',
    status: 403,
    remedy: 'The worker keys document is past its not_after; the worker must renew it.',
  },
  CFN_CHANNEL_MISMATCH: {
    fault: 'trust',
    status: 403,
    remedy: 'The TLS key of the connection is not the one that the evidence binds.',
  },
  CFN_CHALLENGE_INVALID: {
    fault: 'trust',
    status: 403,
    remedy: 'The challenge is unknown, used or too old; ask for a new one.',
  },
  CFN_GRANT_MISSING: {
    fault: 'trust',
    status: 403,
    remedy: 'The model owner has not granted this function the use of the model.',
  },
  CFN_SECRET_MISSING: {
    fault: 'trust',
    status: 403,
    remedy:
      'Give the value with `cfn secret put NAME`, to the KMS that the manifest names and with the author key that signs the function.',
  },
  CFN_GRANT_UNMET: {
    fault: 'trust',
    status: 403,
    remedy: 'The model owner has granted this function the use of the model, but not like this; see the message.',
  },
  CFN_MODEL_UNDECLARED: {
    fault: 'trust',
    status: 403,
    remedy: "The function's author has not named this model in the signed manifest; deploy a version that does.",
  },
  CFN_WITHDRAWN: {
    fault: 'trust',
    status: 403,
    remedy:
      'The owner withdrew this model version, or the author this function version; for good. Use another version.',
  },
  CFN_BROKER_DENIED: {
    fault: 'trust',
    status: 403,
    remedy:
      "The model's key broker does not release the key to this worker; ask the model's owner, whose policy decides.",
  },
  CFN_BROKER_ANSWER: {
    fault: 'trust',
    status: 502,
    remedy:
      "The model's key broker gave something else than the encrypted 32-byte data key; its owner checks what was put there.",
  },
  CFN_ALLOWANCE_SPENT: {
    fault: 'trust',
    status: 403,
    remedy: "The invocations of the model owner's grant are used up; ask the owner for more.",
  },
  CFN_OPERATOR_CONSENT_MISSING: {
    fault: 'trust',
    status: 403,
    remedy: 'The operator of the gateway has not admitted this function, or a model that it uses; ask the operator.',
  },
  CFN_KMS_MISMATCH: {
    fault: 'trust',
    status: 403,
    remedy:
      "What answered is not the KMS that the model's manifest names: it does not hold that key. Check the KMS's URL and what is between.",
  },
  CFN_LEASE_ENDED: { fault: 'trust', status: 403, remedy: 'The lease has ended or was revoked; attest again.' },
  CFN_RECEIPT_INVALID: {
    fault: 'trust',
    status: 422,
    remedy: 'The receipt was altered, or is not signed by the attested worker.',
  },
  CFN_BATCH_INVALID: {
    fault: 'trust',
    status: 422,
    remedy:
      'The batch of receipts does not hold what was said: keep both, and ask the operator; a receipt or a batch was left out, changed or added.',
  },
  CFN_SECRET_EXPOSED: {
    fault: 'trust',
    status: 503,
    remedy:
      'Others could read or replace this secret file. Run chmod 600 on it only if nobody did; else treat its content as known.',
  },
  CFN_KEYRING_ALTERED: {
    fault: 'trust',
    status: 500,
    remedy: 'The keyring does not open under the root key; restore both from the same backup.',
  },
  CFN_ROOT_KEY_REFUSED: {
    fault: 'trust',
    status: 503,
    remedy:
      'The HSM or transit service does not take the PIN or token, or what it may do; correct it. No restart is needed.',
  },
  CFN_AUDIT_ALTERED: {
    fault: 'trust',
    status: 500,
    remedy:
      'Entries of the audit log were changed, cut or reordered, or its checkpoint is of another KMS; keep the file as it is, and look into who could write it.',
  },
  CFN_GPU_NOT_CONFIDENTIAL: {
    fault: 'trust',
    status: 503,
    remedy:
      'The GPUs of this VM are not all in production confidential-computing mode, or cannot all be attested; see the message.',
  },
  CFN_TEE_ABSENT: {
    fault: 'trust',
    status: 503,
    remedy: 'This machine offers no TEE; run inside a TDX or SEV-SNP VM, or use `cfn dev` for simulation.',
  },
  CFN_JAIL_INCOMPLETE: {
    fault: 'trust',
    status: 503,
    remedy: 'Run `cfn doctor` on this machine: it says what each missing layer of the sandbox needs.',
  },
} as const satisfies Record<`CFN_${string}`, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

/** What a caller does after an error: the same again, later; attest anew and seal again; or stop, because nothing changes by itself. */
export type NextStep = 'retry' | 'attest' | 'stop';

const NEXT: Readonly<Record<Fault, NextStep>> = { caller: 'stop', system: 'retry', trust: 'stop' };
/** What the caller knew of workers is out of date; the request itself may be right. */
const ATTEST_ANEW: ReadonlySet<ErrorCode> = new Set(['CFN_KEY_CONFIG_STALE', 'CFN_VERSION_MISMATCH']);

/** Exit code of `cfn` for each fault; a bug is 1. */
export const EXIT_CODES: Readonly<Record<Fault, number>> = { caller: 2, system: 3, trust: 4 };

/** The one error class. `message` says what was expected and what came; it never holds payload, keys or tokens. */
export class CfnError extends Error {
  override readonly name = 'CfnError';
  readonly code: ErrorCode;
  /** When trying again may help, in seconds from now, where that is known: the `Retry-After` of the answer. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions & { readonly retryAfterSeconds?: number }) {
    super(message, options);
    this.code = code;
    this.retryAfterSeconds = options?.retryAfterSeconds;
  }

  get fault(): Fault {
    return ERRORS[this.code].fault;
  }
  get status(): number {
    return ERRORS[this.code].status;
  }
  get remedy(): string {
    return ERRORS[this.code].remedy;
  }
  get next(): NextStep {
    return ATTEST_ANEW.has(this.code) ? 'attest' : NEXT[this.fault];
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value);
}

/** Anything thrown, as a CfnError; what is not one becomes `CFN_INTERNAL` without its message, which could hold payload. */
export function toCfnError(cause: unknown): CfnError {
  return cause instanceof CfnError ? cause : new CfnError('CFN_INTERNAL', 'internal error', { cause });
}

/** RFC 9457 problem details with our stable code. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly remedy: string;
  readonly next: NextStep;
}

export function toProblem(error: CfnError): Problem {
  const type =
    error.code === 'CFN_KEY_CONFIG_STALE'
      ? 'https://iana.org/assignments/http-problem-types#ohttp-key' // RFC 9458 §5.3
      : `urn:cfn:error:${error.code}`;
  return {
    type,
    title: error.code,
    status: error.status,
    detail: error.message,
    code: error.code,
    remedy: error.remedy,
    next: error.next,
  };
}

/** Reads a problem document back into an error; `undefined` when it is none of ours. */
export function fromProblem(value: unknown): CfnError | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { code, detail } = value as { code?: unknown; detail?: unknown };
  return isErrorCode(code) ? new CfnError(code, typeof detail === 'string' ? detail : code) : undefined;
}
