import { z } from 'zod';
import { forbiddenOr, notChecked, notRequired, references, requiredOr, simulatedRoot } from './common.ts';
import { snpDemands } from './snp.ts';

export const TCB_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
] as const;
/** TDATTRIBUTES that a trust domain may have in production. */
export const TD_ATTRIBUTES = ['SEPT_VE_DISABLE', 'PKS', 'KL', 'PERFMON'] as const;

const measurement = references(48);
const bits = z.string().regex(/^[0-9a-f]{16}$/, 'expected 64 bits as 16 hexadecimal digits');
const advisory = z.string().regex(/^INTEL-SA-\d{5}$/);

/** What a trust domain says of itself, real or simulated. */
const trustDomain = {
  /** TDATTRIBUTES bits 0 to 7. No policy for workers can allow it. */
  debug: forbiddenOr,
  /** Attributes that must be on, and those that may; any other is refused. */
  attributes: z.strictObject({ required: z.array(z.enum(TD_ATTRIBUTES)), allowed: z.array(z.enum(TD_ATTRIBUTES)) }),
  /** XFAM bits that may be on. */
  xfam: z.strictObject({ allowed: bits }),
  /** Build-time measurement. */
  mrtd: measurement,
  /** Measurement of the TDX module; its signed identity is part of `tcb`. */
  mrseam: measurement,
  rtmr0: measurement,
  rtmr1: measurement,
  rtmr2: measurement,
  rtmr3: measurement,
  mrconfigid: measurement,
  mrowner: measurement,
  mrownerconfig: measurement,
  /** Service TDs bound to this one, such as for migration: none at all, or these. Quotes of TD report 1.0 carry none. */
  mrservicetd: z.union([z.literal('none'), measurement]),
};

/** Intel's endorsements: QE identity, TDX module and TCB level. */
const tcb = z.strictObject({
  /** Accepted results; `Revoked` never is. */
  statuses: z.array(z.enum(TCB_STATUSES)),
  /** Least tcbEvaluationDataNumber of the collateral: forces the TCB recovery of a date. */
  evaluationNumberMin: z.union([z.int().min(1).max(100_000), notChecked]),
  /** Security advisories that the level may or must not have. */
  advisories: z.union([
    z.strictObject({ allowed: z.array(advisory).max(256) }),
    z.strictObject({ denied: z.array(advisory).max(256) }),
    notChecked,
  ]),
});

export const teeSchema = z.discriminatedUnion('kind', [
  /** Real TDX under Intel's pinned root. */
  z.strictObject({
    kind: z.literal('tdx'),
    ...trustDomain,
    /** Left out, the policy accepts platforms whose firmware is out of date or whose quoting enclave is. */
    tcb: z.union([tcb, notChecked]),
    /** CRLs of the PCK chain and of the signer of the collateral. */
    revocation: requiredOr,
  }),
  /** Real SEV-SNP under AMD's pinned roots. */
  z.strictObject({
    kind: z.literal('snp'),
    /** AMD's CRL of the product. */
    revocation: requiredOr,
    ...snpDemands.shape,
  }),
  /** The simulated platform whose root has this SHA-256. It proves nothing about hardware. */
  z.strictObject({
    kind: z.literal('simulated'),
    root: simulatedRoot,
    ...trustDomain,
  }),
  /** No TEE: for evidence of a GPU, a TPM or a token alone. No policy for workers can be without. */
  z.strictObject({ kind: z.literal('none'), ...notRequired.shape }),
]);
export type TeePolicy = z.infer<typeof teeSchema>;
export type TrustDomainPolicy = Pick<Extract<TeePolicy, { kind: 'tdx' }>, keyof typeof trustDomain>;
export type TdxPolicy = Extract<TeePolicy, { kind: 'tdx' }>;
export type SnpPolicy = Extract<TeePolicy, { kind: 'snp' }>;
