import { z } from 'zod';

/** Longest text of one endorsement, in characters: a RIM or TCB info is about 25 KiB, Intel's largest PCK CRL about 60 KiB. */
const ENDORSEMENT_CHARS_MAX = 128 * 1024;

const der = z
  .string()
  .regex(/^[A-Za-z0-9_-]+$/)
  .max(ENDORSEMENT_CHARS_MAX);
const text = z.string().min(1).max(ENDORSEMENT_CHARS_MAX);

/** One set of Intel's collateral, of one FMSPC. Texts are exactly as Intel's PCS sent them: their signatures are over characters. */
const intelCollateralSchema = z.strictObject({
  /** `{"tcbInfo":{…},"signature":"…"}` */
  tcbInfo: text,
  /** PEM, leaf first, of the signer of the TCB info. */
  tcbInfoIssuerChain: text,
  /** `{"enclaveIdentity":{…},"signature":"…"}` */
  qeIdentity: text,
  qeIdentityIssuerChain: text,
  /** CRL of the PCK CA (Platform or Processor), DER. */
  pckCrl: der,
  pckCrlIssuerChain: text,
  /** CRL of the SGX root, DER. */
  rootCrl: der,
});

/**
 * Vendors' endorsements that travel with evidence, so that every verifier works offline (design §4). Nothing binds them: whoever
 * carries evidence may add, drop or replace them, so each is believed for the vendor's signature alone, and they are no part of
 * the evidence digest. DER is base64url. Every member is there; empty means that the worker has none.
 */
export const endorsementsSchema = z.strictObject({
  intel: z.array(intelCollateralSchema).max(2),
  amd: z.strictObject({
    /** VCEK or VLEK, ASK or ASVK, ARK, in any order. */
    certificates: z.array(der).max(8),
    crls: z.array(der).max(4),
  }),
  nvidia: z.strictObject({
    /** Signed XML of driver and VBIOS RIMs; GPUs of one kind share them. */
    rims: z.array(text).max(32),
    /** OCSP responses, for device chains and the RIMs' signers. */
    ocsp: z.array(der).max(128),
    crls: z.array(der).max(16),
  }),
});
export type Endorsements = z.infer<typeof endorsementsSchema>;

/** For a worker that brings none. */
export const NO_ENDORSEMENTS: Endorsements = {
  intel: [],
  amd: { certificates: [], crls: [] },
  nvidia: { rims: [], ocsp: [], crls: [] },
};

/** Both, each once. The first one's come first: where the schema's limits cut, they stay. */
export function mergeEndorsements(first: Endorsements, second: Endorsements): Endorsements {
  return {
    intel: [...first.intel, ...second.intel].slice(0, 2),
    amd: {
      certificates: union(first.amd.certificates, second.amd.certificates, 8),
      crls: union(first.amd.crls, second.amd.crls, 4),
    },
    nvidia: {
      rims: union(first.nvidia.rims, second.nvidia.rims, 32),
      ocsp: union(first.nvidia.ocsp, second.nvidia.ocsp, 128),
      crls: union(first.nvidia.crls, second.nvidia.crls, 16),
    },
  };
}

function union(first: readonly string[], second: readonly string[], max: number): string[] {
  return [...new Set([...first, ...second])].slice(0, max);
}
