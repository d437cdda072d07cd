import { calculateJwkThumbprint, importJWK, type JWK } from 'jose';
import { CfnError, toBase64url } from '../../../proto/index.ts';
import type { TrustClaim } from '../../evidence/ar4si.ts';
import type { JsonObject } from '../../evidence/json.ts';
import type { Finding } from '../findings.ts';
import { isNotChecked } from '../policy/common.ts';
import { isSimulated, policyDigest, type AppraisalPolicy } from '../policy/policy.ts';
import { makeEar, type EarSigner } from './make-ear.ts';

/** The one submodule of our results: appraisals are of a machine as a whole, CPU, GPUs and what binds them. */
const EAR_SUBMODULE = 'machine';
const VERIFIER = { developer: 'cfn', build: '0.1.0' };

/** Who signs results: an Ed25519 key, named by its thumbprint (RFC 7638). */
export interface ResultSigner extends EarSigner {
  /** `urn:ietf:params:oauth:jwk-thumbprint:sha-256:…` (RFC 9278) */
  readonly issuer: string;
  /** What relying parties pin. */
  readonly publicJwk: JWK;
}

/**
 * @param jwk Ed25519, private
 * @throws {CfnError} `CFN_INPUT_INVALID` when it is none
 */
export async function openResultSigner(jwk: JWK): Promise<ResultSigner> {
  const { kty, crv, x } = jwk;
  const key = await importJWK(jwk, 'EdDSA').catch(() => undefined); // without the cause, which could quote the key
  if (kty !== 'OKP' || crv !== 'Ed25519' || x === undefined || jwk.d === undefined || !key || key instanceof Uint8Array)
    throw new CfnError('CFN_INPUT_INVALID', 'expected an Ed25519 private key as JWK');
  const keyId = await calculateJwkThumbprint({ kty, crv, x });
  return {
    algorithm: 'EdDSA',
    keyId,
    key,
    issuer: `urn:ietf:params:oauth:jwk-thumbprint:sha-256:${keyId}`,
    publicJwk: { kty, crv, x, kid: keyId, alg: 'EdDSA', use: 'sig' },
  };
}

/** An appraisal, accepted or refused. */
export interface ResultSubject {
  readonly findings: readonly Finding[];
  /** What the evidence says; plain JSON. */
  readonly claims: object;
  readonly policy: AppraisalPolicy;
  /** Left out: none was expected. */
  readonly nonce?: Uint8Array;
  /** Whether the evidence binds the keys of a worker, so that the result is about one instance. */
  readonly isOfWorker: boolean;
  readonly now: Date;
  readonly endsAt: Date;
}

/** Gives out an appraisal as EAR. `affirming` is only what the policy had checked, and nothing that was refused. */
export async function appraisalEar(subject: ResultSubject, signer: ResultSigner): Promise<string> {
  const { findings, claims, policy, nonce, isOfWorker, now, endsAt } = subject;
  return makeEar(
    {
      issuer: signer.issuer,
      ...(nonce && { nonce: earNonce(nonce) }),
      verifierId: VERIFIER,
      now,
      lifeMs: Math.max(0, endsAt.getTime() - now.getTime()),
      submodules: {
        [EAR_SUBMODULE]: {
          policyDigest: await policyDigest(policy),
          claims: JSON.parse(JSON.stringify(claims)) as JsonObject,
          findings,
          covers: coveredClaims(policy, isOfWorker),
          simulated: isSimulated(policy),
        },
      },
    },
    signer,
  );
}

/** How a nonce stands in an EAR: as base64url, of 8 bytes at least (RFC 9711 §4.1). */
export function earNonce(nonce: Uint8Array): string {
  return toBase64url(nonce);
}

/** What a policy has checked to the end. */
function coveredClaims(policy: AppraisalPolicy, isOfWorker: boolean): TrustClaim[] {
  const { tee } = policy;
  const covered: (TrustClaim | false)[] = [isOfWorker && 'instance-identity'];
  switch (tee.kind) {
    case 'none':
      break;
    case 'snp':
      covered.push(tee.revocation === 'required' && !isNotChecked(tee.reportedTcbMin) && 'hardware');
      covered.push(!isNotChecked(tee.measurement) && 'executables');
      covered.push(tee.guestPolicy.debug === 'forbidden' && 'runtime-opaque');
      break;
    case 'tdx':
    case 'simulated':
      covered.push(tee.kind === 'tdx' && !isNotChecked(tee.collateral) && 'hardware');
      covered.push(!isNotChecked(tee.mrtd) && 'executables');
      covered.push('runtime-opaque'); // that debugging is off is checked always
  }
  return covered.filter((claim) => claim !== false);
}
