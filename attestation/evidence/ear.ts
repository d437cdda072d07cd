import { z } from 'zod';
import { TIERS, type Tier, type TrustVector } from './ar4si.ts';
import type { JsonObject } from './json.ts';
import type { Jwt } from './jwt.ts';
import { refuse } from './reasons.ts';

/** Profiles of EAR we read: Veraison's, which the IETF draft took over, and Trustee's, which is another name for it. */
export const EAR_PROFILE = 'tag:github.com,2023:veraison/ear';
const TRUSTEE_PROFILE = 'tag:github.com,2024:confidential-containers/Trustee';

const SUBMODULES_MAX = 64;
/** Raw evidence is a quote or a collection of them, in characters of base64url. */
const RAW_EVIDENCE_CHARACTERS_MAX = 256 * 1024;

const text = z.string().min(1).max(1024);
const base64url = z
  .string()
  .max(RAW_EVIDENCE_CHARACTERS_MAX)
  .regex(/^[A-Za-z0-9_-]+$/);
const trustClaim = z.int().min(-128).max(127).optional();
const vectorSchema = z.strictObject({
  'instance-identity': trustClaim,
  configuration: trustClaim,
  executables: trustClaim,
  'file-system': trustClaim,
  hardware: trustClaim,
  'runtime-opaque': trustClaim,
  'storage-opaque': trustClaim,
  'sourced-data': trustClaim,
});
const jsonObject = z.record(z.string(), z.unknown());
/** EAR is extensible: members we do not know are left out. */
const appraisalSchema = z.object({
  'ear.status': z.enum(TIERS),
  'ear.trustworthiness-vector': vectorSchema.optional(),
  'ear.appraisal-policy-id': text.optional(),
  'ear.veraison.annotated-evidence': jsonObject.optional(),
});
/** RFC 9711 §4.1: 8 to 64 bytes, so 12 to 88 characters of base64; one, or several. Hexadecimal makes it 128. */
const nonce = z.string().min(8).max(128);
const earSchema = z.object({
  eat_profile: z.enum([EAR_PROFILE, TRUSTEE_PROFILE]),
  'ear.verifier-id': z.object({ developer: text, build: text }),
  'ear.raw-evidence': base64url.optional(),
  eat_nonce: z.union([nonce, z.array(nonce).min(1).max(8)]).optional(),
  iss: text.optional(),
  aud: z.union([text, z.array(text).max(16)]).optional(),
  submods: z.record(text, appraisalSchema).refine((submodules) => {
    const count = Object.keys(submodules).length;
    return count > 0 && count <= SUBMODULES_MAX;
  }, `expected 1 to ${SUBMODULES_MAX} appraisals`),
});

/** One appraisal of an EAR. */
export interface EarSubmodule {
  readonly name: string;
  readonly status: Tier;
  readonly trustVector: TrustVector;
  readonly policyId: string | undefined;
  /** What the verifier took from the evidence, in its own form. */
  readonly annotatedEvidence: JsonObject | undefined;
}

/** Attestation result in EAR form (draft-ietf-rats-ear), without its dates. */
export interface Ear {
  readonly profile: string;
  readonly verifierId: { readonly developer: string; readonly build: string };
  readonly issuer: string | undefined;
  readonly audiences: readonly string[];
  readonly nonces: readonly string[];
  /** base64url */
  readonly rawEvidence: string | undefined;
  readonly submodules: readonly EarSubmodule[];
}

/**
 * Reads the claims of an EAR.
 *
 * @throws {Refusal} `parse/json`, with the path of each wrong claim.
 */
export function parseEar({ claims }: Jwt): Ear {
  const parsed = earSchema.safeParse(claims);
  if (!parsed.success) refuse('parse/json', `token is not an EAR: ${z.prettifyError(parsed.error).slice(0, 600)}`);
  const { eat_nonce: nonces = [], aud: audiences = [], submods, iss } = parsed.data;
  return {
    profile: parsed.data.eat_profile,
    verifierId: parsed.data['ear.verifier-id'],
    issuer: iss,
    audiences: [audiences].flat(),
    nonces: [nonces].flat(),
    rawEvidence: parsed.data['ear.raw-evidence'],
    submodules: Object.entries(submods).map(([name, appraisal]) => ({
      name,
      status: appraisal['ear.status'],
      trustVector: definedClaims(appraisal['ear.trustworthiness-vector'] ?? {}),
      policyId: appraisal['ear.appraisal-policy-id'],
      annotatedEvidence: appraisal['ear.veraison.annotated-evidence'],
    })),
  };
}

function definedClaims(vector: z.infer<typeof vectorSchema>): TrustVector {
  return Object.fromEntries(Object.entries(vector).filter(([, value]) => value !== undefined));
}
