import { concatBytes, fromHex, sha256, utf8 } from '../../proto/index.ts';
import { sign, toPem, type Issued } from '../insecure/certificates.ts';

/** What a made quote says; unset fields are those of a production TD on an up-to-date platform. */
export interface QuoteFields {
  readonly version?: 4 | 5;
  /** Makes it a TD report 1.5. */
  readonly teeTcbSvn2?: readonly number[];
  readonly teeTcbSvn?: readonly number[];
  readonly mrsignerseam?: Uint8Array;
  readonly seamAttributes?: bigint;
  readonly tdAttributes?: bigint;
  readonly xfam?: bigint;
  readonly mrservicetd?: Uint8Array;
  readonly qe?: {
    readonly miscSelect?: number;
    readonly attributes?: Uint8Array;
    readonly mrsigner?: Uint8Array;
    readonly isvProdId?: number;
    readonly isvSvn?: number;
    readonly authenticationData?: Uint8Array;
    /** In place of the digest that binds the attestation key. */
    readonly reportData?: Uint8Array;
  };
}

export const QE_SIGNER = new Uint8Array(32).fill(0xdc);
export const QE_ATTRIBUTES = fromHex('1100000000000000e700000000000000');
export const QE_PRODUCT = 2;

/** Writes a quote of an attestation key made for it, vouched for by the PCK key. Chain leaf first; `pckKey` forges. */
export async function writeTdxQuote(
  chain: readonly Issued[],
  fields: QuoteFields = {},
  pckKey: CryptoKey | undefined = chain[0]?.keys.privateKey,
): Promise<Uint8Array> {
  if (pckKey === undefined) throw new RangeError('a chain has a leaf');
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey)).subarray(1);
  const signed = concatBytes(header(fields), descriptor(fields), tdReport(fields));
  const authenticationData = fields.qe?.authenticationData ?? new Uint8Array(32).map((_, i) => i);
  const report = qeReport(fields, await sha256(concatBytes(publicKey, authenticationData)));
  const pem = utf8(`${toPem(chain.map((issued) => issued.der))}\0`);
  const certification = concatBytes(
    report,
    await sign(pckKey, 'P-256', report),
    u(2, authenticationData.length),
    authenticationData,
    u(2, 5),
    u(4, pem.length),
    pem,
  );
  const signatureData = concatBytes(
    await sign(keys.privateKey, 'P-256', signed),
    publicKey,
    u(2, 6),
    u(4, certification.length),
    certification,
  );
  return concatBytes(signed, u(4, signatureData.length), signatureData);
}

function header({ version = 4 }: QuoteFields): Uint8Array {
  const vendor = fromHex('939a7233f79c4ca9940a0db3957f0607');
  return concatBytes(u(2, version), u(2, 2), u(4, 0x81), u(4, 0), vendor, new Uint8Array(20));
}

function descriptor({ version = 4, teeTcbSvn2 }: QuoteFields): Uint8Array {
  if (version === 4) return new Uint8Array();
  return teeTcbSvn2 === undefined ? concatBytes(u(2, 2), u(4, 584)) : concatBytes(u(2, 3), u(4, 648));
}

function tdReport(fields: QuoteFields): Uint8Array {
  const {
    teeTcbSvn = [5, 1, 3],
    mrsignerseam = new Uint8Array(48),
    teeTcbSvn2,
    mrservicetd = new Uint8Array(48),
  } = fields;
  return concatBytes(
    svn(teeTcbSvn),
    new Uint8Array(48).fill(1), // MRSEAM
    mrsignerseam,
    u(8, fields.seamAttributes ?? 0n),
    u(8, fields.tdAttributes ?? 0x1000_0000n),
    u(8, fields.xfam ?? 0x602e7n),
    new Uint8Array(48).fill(2), // MRTD
    new Uint8Array(3 * 48), // MRCONFIGID, MROWNER, MROWNERCONFIG
    new Uint8Array(4 * 48).fill(3), // RTMRs
    new Uint8Array(64).fill(4), // REPORTDATA
    ...(teeTcbSvn2 === undefined ? [] : [svn(teeTcbSvn2), mrservicetd]),
  );
}

function qeReport({ qe = {} }: QuoteFields, keyDigest: Uint8Array): Uint8Array {
  return concatBytes(
    new Uint8Array(16), // CPUSVN
    u(4, qe.miscSelect ?? 0),
    new Uint8Array(28),
    qe.attributes ?? QE_ATTRIBUTES,
    new Uint8Array(64), // MRENCLAVE, reserved
    qe.mrsigner ?? QE_SIGNER,
    new Uint8Array(96),
    u(2, qe.isvProdId ?? QE_PRODUCT),
    u(2, qe.isvSvn ?? 8),
    new Uint8Array(60),
    qe.reportData ?? concatBytes(keyDigest, new Uint8Array(32)),
  );
}

function svn(values: readonly number[]): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => values[i] ?? 0);
}

/** Little-endian, so many bytes. */
function u(bytes: number, value: number | bigint): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
}
