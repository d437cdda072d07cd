import { z } from 'zod';
import { notChecked, notRequired, references, requiredOr, simulatedRoot } from './common.ts';
import { snpDemands } from './snp.ts';

/** What Intel's levels can make of a platform and be accepted; `Revoked` and `NotSupported` never are. */
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

const measurement = references(48);
const advisories = z.array(z.string().regex(/^INTEL-SA-\d{5}$/)).max(256);

/** What a trust domain says of itself, real or simulated. That debugging is off, and attributes are known ones, is checked always. */
const trustDomain = {
  /** TDATTRIBUTES bit 28: no exception is raised inside the TD for pages that the host took away. */
  septVeDisable: requiredOr,
  /** Build-time measurement. */
  mrtd: measurement,
  /** Measurement of the TDX module. */
  mrseam: measurement,
  rtmr0: measurement,
  rtmr1: measurement,
  rtmr2: measurement,
  rtmr3: measurement,
  mrconfigid: measurement,
  mrowner: measurement,
  mrownerconfig: measurement,
  /** Service TDs bound to this one, such as for migration: none at all, or these. A TD report 1.0 names none. */
  mrservicetd: z.union([z.literal('none'), measurement]),
};

/** Intel's endorsements: TCB levels, module and QE identity, and the CRLs of all its certificates. */
const collateral = z.strictObject({
  /** Accepted statuses of platform, TDX module and quoting enclave together. */
  statuses: z.array(z.enum(TCB_STATUSES)),
  /** Least tcbEvaluationDataNumber: forces collateral that knows of a TCB recovery. */
  evaluationNumberMin: z.union([z.int().min(1).max(100_000), notChecked]),
  /** Security advisories that may be open on the platform, or that must not. */
  advisories: z.union([z.strictObject({ allowed: advisories }), z.strictObject({ denied: advisories }), notChecked]),
});

export const teeSchema = z.discriminatedUnion('kind', [
  /** Real TDX under Intel's pinned root. */
  z.strictObject({
    kind: z.literal('tdx'),
    ...trustDomain,
    /** Left out, platforms are accepted whose firmware is out of date or whose certificate is revoked. */
    collateral: z.union([collateral, notChecked]),
  }),
  /** Real SEV-SNP under AMD's pinned roots. */
  z.strictObject({
    kind: z.literal('snp'),
    /** AMD's CRL of the product. One that is supplied is checked always. */
    revocation: requiredOr,
    ...snpDemands.shape,
  }),
  /** The simulated platform whose root has this SHA-256. It proves nothing about hardware. */
  z.strictObject({ kind: z.literal('simulated'), root: simulatedRoot, ...trustDomain }),
  /** No TEE: for evidence of a GPU, a TPM or a token alone. No policy for workers can be without. */
  z.strictObject({ kind: z.literal('none'), ...notRequired.shape }),
]);
export type TeePolicy = z.infer<typeof teeSchema>;
export type TdPolicy = Extract<TeePolicy, { kind: 'tdx' | 'simulated' }>;
export type TdxPolicy = Extract<TeePolicy, { kind: 'tdx' }>;
export type SnpPolicy = Extract<TeePolicy, { kind: 'snp' }>;
