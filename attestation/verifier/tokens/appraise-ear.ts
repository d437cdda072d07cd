import { parseJson } from '../../evidence/json.ts';
import { parseJwks, type Jwks } from '../../evidence/jwks.ts';
import { refuse } from '../../evidence/reasons.ts';
import { Findings, type Finding } from '../findings.ts';
import { policyDigest, type AppraisalPolicy } from '../policy/policy.ts';
import { earNonce } from './appraisal-ear.ts';
import { verifyEar, type EarClaims } from './ear.ts';
import { policyUrn } from './make-ear.ts';

export interface EarOptions {
  /** The keys that may have signed it: a JWKS, or one public JWK; JSON text. */
  readonly keys: string;
  readonly now: Date;
  /** What the relying party sent to the verifier; without it, freshness is not checked. */
  readonly nonce?: Uint8Array;
  /** The policy that has to have been applied, to every submodule. */
  readonly policy?: AppraisalPolicy;
}

export interface EarAppraised {
  readonly accepted: boolean;
  readonly findings: readonly Finding[];
  /** Nothing proves them when the result is refused. */
  readonly claims: EarClaims;
}

/** Oldest result that is taken, in ms; most say themselves when they end. */
const AGE_MS_MAX = 24 * 60 * 60_000;
/** Of an Ed25519 or ECDSA key each. */
const ALGORITHMS = ['EdDSA', 'ES256', 'ES384'] as const;
const KEYS_CHARACTERS_MAX = 1024 * 1024;

/**
 * Takes another verifier's attestation result in place of the evidence, on the word of a pinned key: only `affirming` counts.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when token or keys cannot be parsed. Every other refusal is in the findings.
 */
export async function appraiseEar(token: string, { keys, now, nonce, policy }: EarOptions): Promise<EarAppraised> {
  const findings = new Findings();
  const claims = await verifyEar(
    {
      token: token.trim(),
      keys: { kind: 'pinned', jwks: parseKeys(keys) },
      algorithms: ALGORITHMS,
      now,
      issuer: { notChecked: 'the pinned key says who it is' },
      audience: { notChecked: 'none is configured' },
      nonce: nonce === undefined ? { notChecked: 'no nonce was given' } : earNonce(nonce),
      ageMsMax: AGE_MS_MAX,
      statuses: ['affirming'],
      submodules: [],
    },
    findings,
  );
  const check = 'EAR: appraisal policy';
  if (policy === undefined) findings.skip(check, 'none was given: the verifier chose it');
  else {
    const expected = policyUrn(await policyDigest(policy));
    await findings.check(check, () => {
      for (const { name, policyId } of claims.submodules)
        if (policyId !== expected)
          refuse(
            'evidence/token-claims',
            `EAR: ${name} was appraised under ${policyId ?? 'no policy'}, not ${expected}`,
          );
    });
  }
  return { accepted: findings.failures.length === 0, findings: findings.list, claims };
}

function parseKeys(text: string): Jwks {
  const json = parseJson(text, { what: 'keys', charactersMax: KEYS_CHARACTERS_MAX });
  const isOne = typeof json === 'object' && json !== null && Object.hasOwn(json, 'kty');
  return parseJwks(isOne ? JSON.stringify({ keys: [json] }) : text);
}
