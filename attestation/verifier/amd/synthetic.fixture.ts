import { concatBytes, sha256Hex, utf8 } from '../../../proto/index.ts';
import { AMD_EXTENSION } from '../../evidence/amd-certificate.ts';
import type { AmdProduct } from '../../evidence/amd-product.ts';
import { DER } from '../../evidence/der.ts';
import {
  bitString,
  boolean,
  context,
  der,
  integer,
  octetString,
  oid,
  sequence,
  time,
  utf8String,
} from '../../evidence/der-writer.ts';

/** A working AMD with throwaway keys: ARK, ASK and ASVK of one product, RSA-PSS of 4096 bits as the real ones. */
export interface SyntheticAmd {
  readonly roots: Readonly<Record<AmdProduct, string>>;
  readonly ark: Uint8Array;
  readonly ask: Uint8Array;
  readonly asvk: Uint8Array;
  readonly issueLeaf: (options: LeafOptions) => Promise<SyntheticLeaf>;
  /** Issues an intermediate anew, for keys that the real one has. */
  readonly issueAsk: (options: Partial<CertificateOptions>) => Promise<Uint8Array>;
  readonly issueCrl: (options?: CrlOptions) => Promise<Uint8Array>;
}

export interface SyntheticLeaf {
  readonly der: Uint8Array;
  readonly key: CryptoKey;
}

export interface LeafOptions {
  readonly kind?: 'VCEK' | 'VLEK';
  readonly productName: string;
  /** Suffix under `.3` → level. */
  readonly levels: Readonly<Record<number, number>>;
  /** Content of the hardware id's extension, as it is. */
  readonly hardwareId?: Uint8Array;
  readonly cspId?: string;
  readonly pss?: PssOptions;
}

export interface CrlOptions {
  readonly serials?: readonly number[];
  readonly thisUpdate?: string;
  readonly nextUpdate?: string;
  readonly signer?: 'ARK' | 'ASK';
}

interface PssOptions {
  readonly hash: 'SHA-256' | 'SHA-384';
  readonly saltBytes: number;
}

interface CertificateOptions {
  readonly subject: string;
  readonly serial: number;
  readonly notAfter: string;
  readonly isCa: boolean;
  readonly pss: PssOptions;
}

const AMD_PSS: PssOptions = { hash: 'SHA-384', saltBytes: 48 };
const HASH_OIDS = { 'SHA-256': '2.16.840.1.101.3.4.2.1', 'SHA-384': '2.16.840.1.101.3.4.2.2' };
export const ASK_SERIAL = 0x030001;

export async function makeSyntheticAmd(product: AmdProduct): Promise<SyntheticAmd> {
  const [arkKeys, askKeys, asvkKeys] = await Promise.all([rsaKeys(), rsaKeys(), rsaKeys()]);
  const arkName = `ARK-${product}`;
  const authority = async (subject: string, keys: CryptoKeyPair, options: Partial<CertificateOptions> = {}) =>
    certificate({ subject, isCa: true, serial: ASK_SERIAL, ...options }, keys.publicKey, [], arkName, arkKeys);
  const ark = await authority(arkName, arkKeys, { serial: 0x030000 });
  return {
    roots: { Milan: '', Genoa: '', Turin: '', [product]: await sha256Hex(ark) },
    ark,
    ask: await authority(`SEV-${product}`, askKeys),
    asvk: await authority(`SEV-VLEK-${product}`, asvkKeys, { serial: 0x030101 }),
    issueAsk: (options) => authority(`SEV-${product}`, askKeys, options),
    issueLeaf: async (options) => {
      const { kind = 'VCEK' } = options;
      const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-384' }, true, ['sign', 'verify']);
      const issuer = kind === 'VCEK' ? `SEV-${product}` : `SEV-VLEK-${product}`;
      const request = { subject: `SEV-${kind}`, isCa: false, serial: 0, ...(options.pss && { pss: options.pss }) };
      const issuerKeys = kind === 'VCEK' ? askKeys : asvkKeys;
      const leaf = await certificate(request, keys.publicKey, leafExtensions(options), issuer, issuerKeys);
      return { der: leaf, key: keys.privateKey };
    },
    issueCrl: (options = {}) => crl(arkName, options.signer === 'ASK' ? askKeys : arkKeys, options),
  };
}

function leafExtensions({ productName, levels, hardwareId, cspId }: LeafOptions): Uint8Array[] {
  const extension = (suffix: string, value: Uint8Array): Uint8Array =>
    sequence(oid(`${AMD_EXTENSION}.${suffix}`), octetString(value));
  const text = (value: string): Uint8Array => der(DER.ia5String, utf8(value));
  return [
    extension('1', integer(productName.startsWith('Turin') ? 1 : 0)),
    extension('2', text(productName)),
    ...Object.entries(levels).map(([suffix, level]) => extension(`3.${suffix}`, integer(level))),
    ...(hardwareId === undefined ? [] : [extension('4', hardwareId)]),
    ...(cspId === undefined ? [] : [extension('5', text(cspId))]),
  ];
}

async function certificate(
  options: Partial<CertificateOptions> & Pick<CertificateOptions, 'subject' | 'serial' | 'isCa'>,
  key: CryptoKey,
  extensions: readonly Uint8Array[],
  issuer: string,
  issuerKeys: CryptoKeyPair,
): Promise<Uint8Array> {
  const { subject, serial, isCa, notAfter = '2049-01-01T00:00:00Z', pss = AMD_PSS } = options;
  const authority = [
    sequence(oid('2.5.29.15'), boolean(true), octetString(bitString(Uint8Array.of(0x06), 1))),
    sequence(oid('2.5.29.19'), boolean(true), octetString(sequence(boolean(true)))),
  ];
  return sign(issuerKeys, pss, (algorithm) => [
    context(0, integer(2)),
    integer(serial),
    algorithm,
    name(issuer),
    sequence(time('2020-01-01T00:00:00Z'), time(notAfter)),
    name(subject),
    key,
    context(3, sequence(...(isCa ? authority : extensions))),
  ]);
}

function crl(issuer: string, keys: CryptoKeyPair, options: CrlOptions): Promise<Uint8Array> {
  const { serials = [], thisUpdate = '2026-01-01T00:00:00Z', nextUpdate = '2027-01-01T00:00:00Z' } = options;
  const entries = serials.map((serial) => sequence(integer(serial), time('2026-01-01T00:00:00Z')));
  return sign(keys, AMD_PSS, (algorithm) => [
    integer(1),
    algorithm,
    name(issuer),
    time(thisUpdate),
    time(nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(...entries)]),
  ]);
}

async function sign(
  keys: CryptoKeyPair,
  { hash, saltBytes }: PssOptions,
  content: (algorithm: Uint8Array) => readonly (Uint8Array | CryptoKey)[],
): Promise<Uint8Array> {
  const digest = sequence(oid(HASH_OIDS[hash]));
  const mask = sequence(oid('1.2.840.113549.1.1.8'), digest);
  const parameters = sequence(context(0, digest), context(1, mask), context(2, integer(saltBytes)));
  const algorithm = sequence(oid('1.2.840.113549.1.1.10'), parameters);
  const parts = await Promise.all(
    content(algorithm).map(async (part) =>
      part instanceof Uint8Array ? part : new Uint8Array(await crypto.subtle.exportKey('spki', part)),
    ),
  );
  const tbs = sequence(...parts);
  // WebCrypto ties a key to its hash.
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, { name: 'RSA-PSS', hash }, false, ['sign']);
  const signature = await crypto.subtle.sign({ name: 'RSA-PSS', saltLength: saltBytes }, key, tbs);
  return sequence(tbs, algorithm, bitString(new Uint8Array(signature)));
}

function rsaKeys(): Promise<CryptoKeyPair> {
  const algorithm = { name: 'RSA-PSS', modulusLength: 4096, publicExponent: Uint8Array.of(1, 0, 1), hash: 'SHA-384' };
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

function name(commonName: string): Uint8Array {
  return sequence(der(DER.set, sequence(oid('2.5.4.3'), utf8String(commonName))));
}

/** Bytes of a report at their offsets, over a plausible version 5 report of Turin. */
export type ReportPatch = Readonly<Record<number, readonly number[]>>;

export const TURIN_CHIP = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
export const TURIN_TCB = [1, 2, 3, 4, 0, 0, 0, 90];
/** Version, policy (SMT), algorithm, platform info, CPUID, firmware 1.58.5, mitigations; by offset. */
const PLAUSIBLE: ReportPatch = {
  0x00: [5],
  0x08: [0, 0, 3, 0, 0, 0, 0, 0],
  0x34: [1],
  0x38: TURIN_TCB,
  0x40: [0x25],
  0x180: TURIN_TCB,
  0x188: [0x1a, 0x02, 0x01],
  0x1a0: TURIN_CHIP,
  0x1e0: TURIN_TCB,
  0x1e8: [5, 58, 1, 0, 5, 58, 1, 0],
  0x1f0: TURIN_TCB,
  0x1f8: [0x0b],
  0x200: [0x0f],
};

/** Signs a report. `signature` changes R ‖ S (little endian, 72 bytes each) after the signing. */
export async function makeReport(
  key: CryptoKey,
  patch: ReportPatch = {},
  signature: ReportPatch = {},
): Promise<Uint8Array> {
  const report = new Uint8Array(1184);
  const fields: ReportPatch = { ...PLAUSIBLE, ...patch };
  for (const [offset, bytes] of Object.entries(fields)) report.set(bytes, Number(offset));
  const algorithm = { name: 'ECDSA', hash: 'SHA-384' };
  const raw = new Uint8Array(await crypto.subtle.sign(algorithm, key, report.slice(0, 0x2a0)));
  report.set(raw.slice(0, 48).toReversed(), 0x2a0);
  report.set(raw.slice(48).toReversed(), 0x2a0 + 72);
  for (const [offset, bytes] of Object.entries(signature)) report.set(bytes, 0x2a0 + Number(offset));
  return report;
}

/** A VCEK as Turin's are. */
export const TURIN_LEAF: LeafOptions = {
  productName: 'Turin-B1',
  levels: { 9: 1, 1: 2, 2: 3, 3: 4, 5: 0, 6: 0, 7: 0, 8: 90 },
  hardwareId: Uint8Array.from(TURIN_CHIP),
};

export function wrapped(bytes: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(DER.octetString, bytes.length), bytes);
}
