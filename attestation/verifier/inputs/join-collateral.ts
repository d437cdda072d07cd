import { equalBytes } from '../../../proto/index.ts';
import { writeIntelCollateral } from '../../evidence/intel-collateral.ts';
import { isJsonObject } from '../../evidence/json.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import type { Certificate } from '../../evidence/x509.ts';
import { certificateFile } from './certificates.ts';
import type { Gathered } from './gather.ts';

/** Most documents that are put together of loose parts; the verifier looks for the one that fits. */
const DOCUMENTS_MAX = 64;
/** Largest that they may grow together, in characters; real ones have 20 kB each, most of it CRLs. */
const CHARACTERS_MAX = 16 * 1024 * 1024;

type Parts = Pick<Gathered, 'tcbInfos' | 'qeIdentities' | 'certificates' | 'crls' | 'tdxQuotes'>;

/**
 * Collateral documents of Intel's answers one by one, with the chains and CRLs that belong to them by their names: all that the parts
 * make, as there may be some of several days, platforms, or for SGX. Quotes bring the CA of their PCK certificate along.
 */
export function joinCollateral({ tcbInfos, qeIdentities, certificates, crls, tdxQuotes }: Parts): string[] {
  if (tcbInfos.length === 0 && qeIdentities.length === 0) return [];
  const all = [
    ...certificates.flatMap((file) => file.certificates),
    ...tdxQuotes.flatMap((bytes) => parseTdxQuote(bytes).pckChain),
  ];
  const root = all.find(({ subjectCommonName }) => subjectCommonName.includes('SGX Root CA'));
  const chains = (leaf: RegExp): { readonly leaf: Certificate | undefined; readonly pem: string }[] => {
    const leaves = distinct(all.filter(({ subjectCommonName }) => leaf.test(subjectCommonName)));
    const ofLeaf = (found: Certificate | undefined): string =>
      certificateFile([found, root].filter((certificate) => certificate !== undefined)).pem;
    return orNone(leaves).map((found) => ({ leaf: found, pem: ofLeaf(found) }));
  };
  const ofRoot = orNone(crls.filter(({ issuer }) => root !== undefined && equalBytes(issuer, root.subject)));
  const ofCa = chains(/SGX PCK (?:Platform|Processor) CA/).flatMap(({ leaf: ca, pem }) =>
    orNone(crls.filter(({ issuer }) => ca !== undefined && equalBytes(issuer, ca.subject))).map((crl) => ({
      pem,
      crl,
    })),
  );
  const signers = chains(/TCB Signing/);
  const documents: string[] = [];
  let characters = 0;
  for (const tcbInfo of orNone(of(tcbInfos, 'tcbInfo', 'TDX')))
    for (const qeIdentity of orNone(of(qeIdentities, 'enclaveIdentity', 'TD_QE')))
      for (const { pem: signing } of signers)
        for (const { pem: pckCa, crl } of ofCa)
          for (const rootCrl of ofRoot) {
            if (documents.length === DOCUMENTS_MAX || characters > CHARACTERS_MAX) return documents;
            const document = writeIntelCollateral({
              tcbInfo: tcbInfo ?? '',
              qeIdentity: qeIdentity ?? '',
              tcbInfoIssuerChain: signing,
              qeIdentityIssuerChain: signing,
              pckCrlIssuerChain: pckCa,
              pckCrl: crl?.der ?? new Uint8Array(),
              rootCaCrl: rootCrl?.der ?? new Uint8Array(),
            });
            documents.push(document);
            characters += document.length;
          }
  return documents;
}

/** Answers for this kind of TEE; where there are none, all, so that the verifier can say what they are. */
function of(answers: readonly string[], member: string, id: string): readonly string[] {
  const wanted = answers.filter((text) => {
    const json: unknown = JSON.parse(text); // was parsed when it was recognised
    const inner = isJsonObject(json) ? json[member] : undefined;
    return isJsonObject(inner) && inner['id'] === id;
  });
  return wanted.length > 0 ? wanted : answers;
}

function distinct(certificates: readonly Certificate[]): Certificate[] {
  return certificates.filter((one, index) => certificates.findIndex(({ der }) => equalBytes(der, one.der)) === index);
}

/** What is missing must be missing in a document, which says so. */
function orNone<T>(list: readonly T[]): readonly (T | undefined)[] {
  return list.length > 0 ? list : [undefined];
}
