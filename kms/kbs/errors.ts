import { KBS_ERRORS, type CfnError } from '../../proto/index.ts';

/** Where in the protocol something failed. */
export type KbsStep = 'attestation' | 'resource';

/**
 * A refusal as the protocol has it: 401 for nearly everything, and the name in `type` decides what the client does. A resource that
 * there is not and one that is not for this client are refused in the same words.
 */
export function kbsRefusal(error: CfnError, step: KbsStep): Response {
  const name = nameOf(error, step);
  const status =
    error.code === 'CFN_NOT_FOUND'
      ? 404
      : error.code === 'CFN_BODY_TOO_LARGE'
        ? 413
        : error.fault === 'system'
          ? 503
          : 401;
  const detail =
    name === 'PolicyDeny' ? 'no such resource is released to this client' : `${error.code}: ${error.message}`;
  return new Response(JSON.stringify({ type: `${KBS_ERRORS}${name}`, detail }), {
    status,
    headers: { 'content-type': 'application/json' },
  });
}

function nameOf({ code, fault }: CfnError, step: KbsStep): string {
  if (code === 'CFN_NOT_FOUND') return 'InvalidRequestPath';
  if (fault === 'system') return 'PluginInternalError';
  if (step === 'attestation') return 'AttestationError';
  if (code === 'CFN_TOKEN_INVALID') return 'TokenNotFound';
  return code === 'CFN_CHALLENGE_INVALID' ? 'TokenVerifierError' : 'PolicyDeny';
}
