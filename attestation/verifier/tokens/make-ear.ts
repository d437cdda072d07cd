import { CompactSign, type CryptoKey } from 'jose';
import { utf8 } from '../../../proto/index.ts';
import { worstTier, type Tier } from '../../evidence/ar4si.ts';
import { EAR_PROFILE } from '../../evidence/ear.ts';
import type { JsonObject } from '../../evidence/json.ts';
import type { TokenAlgorithm } from './keys.ts';
import { failuresOf, trustVectorOf, type AppraisalOutcome } from './trust-vector.ts';

export interface EarAppraisal extends AppraisalOutcome {
  /** SHA-256 of the appraisal policy, hexadecimal. */
  readonly policyDigest: string;
  /** What the evidence says; plain JSON. */
  readonly claims: JsonObject;
}

export interface EarContents {
  readonly issuer: string;
  /** Whom the result is for; anybody when left out. */
  readonly audience?: string;
  /** The nonce that the relying party sent, as text: base64url of 8 to 64 bytes. */
  readonly nonce?: string;
  readonly verifierId: { readonly developer: string; readonly build: string };
  readonly now: Date;
  readonly lifeMs: number;
  /** By name, such as `cpu0` and `gpu0`; at least one. */
  readonly submodules: Readonly<Record<string, EarAppraisal>>;
}

export interface EarSigner {
  readonly algorithm: TokenAlgorithm;
  readonly keyId: string;
  readonly key: CryptoKey;
}

/**
 * Writes the outcome of appraisals as an EAR (draft-ietf-rats-ear), signed. A submodule with any failed check is
 * `contraindicated`, also where the claim itself would only warn, so that no relying party takes for a warning what we refused; one
 * without any claim checked to the end is `none`. Findings travel as `cfn.findings`.
 */
export function makeEar(contents: EarContents, signer: EarSigner): Promise<string> {
  const issuedAt = Math.floor(contents.now.getTime() / 1000);
  const claims = {
    eat_profile: EAR_PROFILE,
    iss: contents.issuer,
    ...(contents.audience === undefined ? {} : { aud: contents.audience }),
    iat: issuedAt,
    nbf: issuedAt,
    exp: issuedAt + Math.floor(contents.lifeMs / 1000),
    ...(contents.nonce === undefined ? {} : { eat_nonce: contents.nonce }),
    'ear.verifier-id': contents.verifierId,
    submods: Object.fromEntries(
      Object.entries(contents.submodules).map(([name, appraisal]) => [name, submodule(appraisal)]),
    ),
  };
  const header = { alg: signer.algorithm, kid: signer.keyId, typ: 'JWT' };
  return new CompactSign(utf8(JSON.stringify(claims))).setProtectedHeader(header).sign(signer.key);
}

function submodule(appraisal: EarAppraisal): JsonObject {
  const vector = trustVectorOf(appraisal);
  return {
    'ear.status': statusOf(appraisal, worstTier(vector)),
    'ear.trustworthiness-vector': vector,
    'ear.appraisal-policy-id': policyUrn(appraisal.policyDigest),
    'ear.veraison.annotated-evidence': appraisal.claims,
    'cfn.findings': appraisal.findings,
  };
}

/** How an EAR names an appraisal policy. */
export function policyUrn(digest: string): string {
  return `urn:cfn:appraisal-policy:sha256:${digest}`;
}

function statusOf({ findings }: EarAppraisal, worst: Tier): Tier {
  return failuresOf(findings).length > 0 ? 'contraindicated' : worst;
}
