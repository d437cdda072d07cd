/** The claims of a trustworthiness vector (draft-ietf-rats-ar4si §2.3), by the names that EAR uses in JSON. */
export const TRUST_CLAIMS = [
  'instance-identity',
  'configuration',
  'executables',
  'file-system',
  'hardware',
  'runtime-opaque',
  'storage-opaque',
  'sourced-data',
] as const;
export type TrustClaim = (typeof TRUST_CLAIMS)[number];

/** Values from -128 to 127; a claim that is left out says as much as 0: nothing. */
export type TrustVector = Readonly<Partial<Record<TrustClaim, number>>>;

/** From the best to the worst. `none` makes no statement, so it is in no order with the others. */
export const TIERS = ['none', 'affirming', 'warning', 'contraindicated'] as const;
export type Tier = (typeof TIERS)[number];

/** What the value of any claim says (draft-ietf-rats-ar4si §2.3.2): -1 to 1 nothing, then the three tiers away from zero. */
export function tierOf(value: number): Tier {
  if (value >= -1 && value <= 1) return 'none';
  if (value >= -32 && value <= 31) return 'affirming';
  if (value >= -96 && value <= 95) return 'warning';
  return 'contraindicated';
}

/** The worst tier that any claim of the vector has. */
export function worstTier(vector: TrustVector): Tier {
  const ranks = Object.values(vector).map((value) => TIERS.indexOf(tierOf(value)));
  return TIERS[Math.max(0, ...ranks)] ?? 'contraindicated';
}
