import { KBS_ERRORS, kbsErrorSchema } from './kbs.ts';

/**
 * What a client does about a refusal: ask again later, attest anew, or stop. Brokers answer nearly everything with 401, so that the
 * last part of the error's `type` decides.
 */
export type KbsRecourse = 'retry' | 'attest-again' | 'denied';

const RECOURSES: Readonly<Record<string, KbsRecourse>> = {
  // Session or token are gone, or the nonce is too old. /attest says the same of evidence that was refused: who asks again must count.
  TokenNotFound: 'attest-again',
  TokenVerifierError: 'attest-again',
  AttestationError: 'attest-again',
  // The broker itself is not well.
  PluginInternalError: 'retry',
  PluginManagerInitialization: 'retry',
  StorageBackendInitialization: 'retry',
  AdminAuthInitialization: 'retry',
  HTTPFailed: 'retry',
  HTTPSFailed: 'retry',
  JweError: 'retry',
  RvpsError: 'retry',
  PolicyEngineError: 'retry',
  PrometheusError: 'retry',
  // Its answer.
  PolicyDeny: 'denied',
  AdminAuthAccess: 'denied',
  ParsePolicyError: 'denied',
  SerdeError: 'denied',
  InvalidRequestPath: 'denied',
  PluginNotFound: 'denied',
};

/** The last part of a broker's error `type`; `undefined` when the body is no error of the protocol. */
export function kbsErrorName(body: unknown): string | undefined {
  const { type } = kbsErrorSchema.safeParse(body).data ?? {};
  return type?.startsWith(KBS_ERRORS) === true ? type.slice(KBS_ERRORS.length) : undefined;
}

/** @param status of the HTTP answer; it counts where the body says nothing that is known */
export function kbsRecourse(status: number, body: unknown): KbsRecourse {
  const name = kbsErrorName(body);
  if (name !== undefined && Object.hasOwn(RECOURSES, name)) return RECOURSES[name] ?? 'denied';
  return status >= 500 || status === 408 || status === 429 ? 'retry' : 'denied';
}
