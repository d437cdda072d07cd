import { concatBytes, sha256Hex, toHex, utf8 } from '../../proto/index.ts';
import { der, integer, octetString, oid, sequence } from '../evidence/der-writer.ts';
import { DER } from '../evidence/der.ts';
import type { PlatformStatus, ComponentStatus } from '../evidence/intel-tcb.ts';
import { SGX_EXTENSION } from '../evidence/pck.ts';
import { issueCertificate, sign, toPem, type CertificateRequest, type Issued } from '../insecure/certificates.ts';
import { issueCrl, type CrlRequest } from './crl.testkit.ts';
import { QE_ATTRIBUTES, QE_PRODUCT, QE_SIGNER } from './tdx-quote.testkit.ts';

/** A working authority of Intel's shape with keys of its own: chains, CRLs, TCB infos, QE identities. */
export interface IntelAuthority {
  /** SHA-256 of the root, hexadecimal. */
  readonly root: string;
  readonly rootCa: Issued;
  readonly pckCa: Issued;
  readonly tcbSigner: Issued;
  /** PCK leaf, PCK CA, root. */
  readonly pckChain: readonly Issued[];
}

export const NOW = new Date('2026-06-15T00:00:00Z');
export const FMSPC = '00906ED50000';
const VALIDITY = { notBefore: '2026-01-01T00:00:00Z', notAfter: '2027-01-01T00:00:00Z' };

export interface AuthorityOptions {
  readonly cpuSvn?: readonly number[];
  readonly pceSvn?: number;
  readonly root?: Partial<CertificateRequest>;
  readonly pckCa?: Partial<CertificateRequest>;
  readonly leaf?: Partial<CertificateRequest>;
  readonly tcbSigner?: Partial<CertificateRequest>;
}

export async function makeIntelAuthority(options: AuthorityOptions = {}): Promise<IntelAuthority> {
  const base = { curve: 'P-256', isCa: true, ...VALIDITY } as const;
  const rootCa = await issueCertificate({ ...base, commonName: 'TEST SGX Root CA', pathLength: 1, ...options.root });
  const pckCa = await issueCertificate(
    { ...base, commonName: 'TEST SGX PCK Platform CA', pathLength: 0, ...options.pckCa },
    rootCa,
  );
  const extensions = { [SGX_EXTENSION]: sgxExtension(options.cpuSvn ?? [3, 3], options.pceSvn ?? 11) };
  const leaf = await issueCertificate(
    { ...base, isCa: false, commonName: 'TEST SGX PCK Certificate', extensions, ...options.leaf },
    pckCa,
  );
  const tcbSigner = await issueCertificate(
    { ...base, isCa: false, commonName: 'TEST SGX TCB Signing', ...options.tcbSigner },
    rootCa,
  );
  return { root: await sha256Hex(rootCa.der), rootCa, pckCa, tcbSigner, pckChain: [leaf, pckCa, rootCa] };
}

function sgxExtension(cpuSvn: readonly number[], pceSvn: number): Uint8Array {
  const item = (suffix: string, value: Uint8Array): Uint8Array => sequence(oid(`${SGX_EXTENSION}.${suffix}`), value);
  const components = Uint8Array.from({ length: 16 }, (_, i) => cpuSvn[i] ?? 0);
  const tcb = [...components].map((svn, index) => item(`2.${index + 1}`, integer(svn)));
  return sequence(
    item('1', octetString(new Uint8Array(16))),
    item('2', sequence(concatBytes(...tcb, item('2.17', integer(pceSvn)), item('2.18', octetString(components))))),
    item('3', octetString(new Uint8Array(2))),
    item('4', octetString(Uint8Array.from(FMSPC.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)))),
    item('5', der(DER.enumerated, Uint8Array.of(1))),
  );
}

export interface LevelFields {
  readonly sgx?: readonly number[];
  readonly tdx?: readonly number[];
  readonly pcesvn?: number;
  readonly status: PlatformStatus;
  readonly advisoryIDs?: readonly string[];
}
export interface ComponentLevelFields {
  readonly isvsvn: number;
  readonly status: ComponentStatus;
  readonly advisoryIDs?: readonly string[];
}

const components = (svns: readonly number[] = []) => Array.from({ length: 16 }, (_, i) => ({ svn: svns[i] ?? 0 }));
const TCB_DATE = '2026-01-01T00:00:00Z';
const componentLevel = ({ isvsvn, status, ...rest }: ComponentLevelFields) => ({
  tcb: { isvsvn },
  tcbDate: TCB_DATE,
  tcbStatus: status,
  ...rest,
});

export const level = ({ sgx, tdx, pcesvn = 5, status, ...rest }: LevelFields) => ({
  tcb: { sgxtcbcomponents: components(sgx), pcesvn, tdxtcbcomponents: components(tdx) },
  tcbDate: TCB_DATE,
  tcbStatus: status,
  ...rest,
});

export const moduleIdentity = (major: number, levels: readonly ComponentLevelFields[], changed: object = {}) => ({
  id: `TDX_${toHex(Uint8Array.of(major)).toUpperCase()}`,
  mrsigner: '00'.repeat(48),
  attributes: '00'.repeat(8),
  attributesMask: 'FF'.repeat(8),
  tcbLevels: levels.map(componentLevel),
  ...changed,
});

/** A TCB info by which the platform of {@link makeIntelAuthority} and a quote without changed fields are up to date. */
export function tcbInfo(changed: object = {}): object {
  return {
    id: 'TDX',
    version: 3,
    issueDate: '2026-06-01T00:00:00Z',
    nextUpdate: '2026-07-01T00:00:00Z',
    fmspc: FMSPC,
    pceId: '0000',
    tcbType: 0,
    tcbEvaluationDataNumber: 17,
    tdxModule: { mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'FF'.repeat(8) },
    tdxModuleIdentities: [
      moduleIdentity(1, [
        { isvsvn: 5, status: 'UpToDate' },
        { isvsvn: 2, status: 'OutOfDate', advisoryIDs: ['TEST-SA-00002'] },
      ]),
    ],
    tcbLevels: [
      level({ sgx: [3, 3], tdx: [5, 0, 3], pcesvn: 11, status: 'UpToDate' }),
      level({ sgx: [2, 2], tdx: [3, 0, 2], status: 'OutOfDate', advisoryIDs: ['TEST-SA-00003', 'TEST-SA-00001'] }),
    ],
    ...changed,
  };
}

export function qeIdentity(changed: object = {}): object {
  return {
    id: 'TD_QE',
    version: 2,
    issueDate: '2026-06-01T00:00:00Z',
    nextUpdate: '2026-07-01T00:00:00Z',
    tcbEvaluationDataNumber: 17,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: toHex(QE_ATTRIBUTES).replace('e7', '00').toUpperCase(),
    attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: toHex(QE_SIGNER).toUpperCase(),
    isvprodid: QE_PRODUCT,
    tcbLevels: [
      { isvsvn: 8, status: 'UpToDate' },
      { isvsvn: 4, status: 'OutOfDate', advisoryIDs: ['TEST-SA-00001'] },
      { isvsvn: 2, status: 'Revoked' },
    ].map((fields) => componentLevel(fields as ComponentLevelFields)),
    ...changed,
  };
}

export interface CollateralOptions {
  readonly tcbInfo?: object;
  readonly qeIdentity?: object;
  readonly rootCrl?: Partial<CrlRequest>;
  readonly pckCrl?: Partial<CrlRequest>;
  /** Key that signs TCB info and QE identity in place of the TCB signer's. */
  readonly signer?: Issued;
  /** Keys that forge the CRLs. */
  readonly rootCrlSigner?: Issued;
  readonly pckCrlSigner?: Issued;
}

/** The members of a collateral document, for tests to change; see {@link collateralDocument}. */
export async function collateralMembers(
  { rootCa, pckCa, tcbSigner }: IntelAuthority,
  options: CollateralOptions = {},
): Promise<Record<string, string>> {
  const dates = { thisUpdate: '2026-06-01T00:00:00Z', nextUpdate: '2026-07-01T00:00:00Z' };
  const { signer = tcbSigner } = options;
  const signed = async (content: object): Promise<[text: string, signature: string]> => {
    const text = JSON.stringify(content);
    return [text, toHex(await sign(signer.keys.privateKey, 'P-256', utf8(text)))];
  };
  const [tcb_info, tcb_info_signature] = await signed(options.tcbInfo ?? tcbInfo());
  const [qe_identity, qe_identity_signature] = await signed(options.qeIdentity ?? qeIdentity());
  const signingChain = toPem([tcbSigner.der, rootCa.der]);
  return {
    pck_crl_issuer_chain: toPem([pckCa.der, rootCa.der]),
    root_ca_crl: toHex(await issueCrl(rootCa, { ...dates, ...options.rootCrl }, options.rootCrlSigner)),
    pck_crl: toHex(await issueCrl(pckCa, { ...dates, ...options.pckCrl }, options.pckCrlSigner)),
    tcb_info_issuer_chain: signingChain,
    tcb_info,
    tcb_info_signature,
    qe_identity_issuer_chain: signingChain,
    qe_identity,
    qe_identity_signature,
  };
}

export async function collateralDocument(authority: IntelAuthority, options?: CollateralOptions): Promise<string> {
  return JSON.stringify(await collateralMembers(authority, options));
}
