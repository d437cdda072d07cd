import { readFileSync } from 'node:fs';

const recorded = JSON.parse(
  readFileSync(new URL('../vectors/tdx/collateral/b0c06f-2025-06.json', import.meta.url), 'utf8'),
) as Record<string, string>;

/** A member of the recorded collateral of FMSPC B0C06F. */
export const recordedMember = (name: string): string => recorded[name] ?? '';

export interface IntelRoute {
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Intel's service over the recorded collateral: bodies and URL-encoded chains as it sends them. */
export function intelRoutes(): Record<string, IntelRoute> {
  const body = (name: string, key: string) =>
    `{"${name}":${recordedMember(key)},"signature":"${recordedMember(`${key}_signature`)}"}`;
  const chain = (header: string, key: string) => ({ [header]: encodeURIComponent(recordedMember(key)) });
  return {
    '/tdx/certification/v4/tcb?fmspc=B0C06F000000': {
      body: body('tcbInfo', 'tcb_info'),
      headers: chain('TCB-Info-Issuer-Chain', 'tcb_info_issuer_chain'),
    },
    '/tdx/certification/v4/qe/identity': {
      body: body('enclaveIdentity', 'qe_identity'),
      headers: chain('SGX-Enclave-Identity-Issuer-Chain', 'qe_identity_issuer_chain'),
    },
    '/sgx/certification/v4/pckcrl?ca=platform&encoding=der': {
      body: Buffer.from(recordedMember('pck_crl'), 'hex'),
      headers: chain('SGX-PCK-CRL-Issuer-Chain', 'pck_crl_issuer_chain'),
    },
    '/sgx/certification/v4/rootcacrl': { body: recordedMember('root_ca_crl') },
  };
}
