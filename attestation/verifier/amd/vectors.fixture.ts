import { readFileSync } from 'node:fs';
import { parseCrl, type Crl } from '../../evidence/crl.ts';
import { parseCertificate, parsePemChain, type Certificate } from '../../evidence/x509.ts';
import type { SnpDemands } from './demands.ts';
import type { SnpEvidence } from './verify.ts';

export function readVector(path: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../../vectors/snp/${path}`, import.meta.url)));
}

export function readCase({ inputs, now }: { readonly inputs: readonly string[]; readonly now: string }): SnpEvidence {
  const certificates: Certificate[] = [];
  const crls: Crl[] = [];
  let report = new Uint8Array();
  for (const path of inputs) {
    const bytes = new Uint8Array(readVector(path));
    if (path.startsWith('reports/')) report = bytes;
    else if (path.startsWith('chains/')) certificates.push(...parsePemChain(new TextDecoder().decode(bytes)));
    else if (path.startsWith('crls/')) crls.push(parseCrl(bytes));
    else certificates.push(parseCertificate(bytes));
  }
  return { report, certificates, crls, revocation: { notChecked: 'as the cases say' }, now: new Date(now) };
}

/** Everything but debugging and migration is left open. */
const open = { notChecked: 'not part of this test' };
export const DEFAULT_DEMANDS: SnpDemands = {
  products: open,
  signers: open,
  chipId: open,
  cspId: open,
  guestPolicy: {
    smt: open,
    migrationAgent: 'forbidden',
    debug: 'forbidden',
    singleSocket: open,
    cxl: open,
    aes256Xts: open,
    raplOff: open,
    ciphertextHiding: open,
    pageSwapOff: open,
  },
  guestPolicyAbiMin: open,
  platformInfo: {
    smt: open,
    tsme: open,
    ecc: open,
    raplOff: open,
    ciphertextHiding: open,
    aliasCheckComplete: open,
    tio: open,
  },
  platformInfoUnknown: open,
  vmpl: open,
  reportedTcbMin: open,
  committedTcbMin: open,
  launchTcbMin: open,
  provisionalFirmware: open,
  firmwareMin: open,
  launchMitigations: open,
  currentMitigations: open,
  measurement: open,
  hostData: open,
  familyId: open,
  imageId: open,
  idKeyDigest: open,
  authorKeyDigest: open,
  reportIdOfMigrationAgent: open,
  guestSvnMin: open,
};
