import { fromUtf8, toHex } from '../../proto/index.ts';
import { productOfName, TCB_BYTES, tcbLayout, type AmdProduct } from './amd-product.ts';
import { DER, DerReader } from './der.ts';
import { refuse } from './reasons.ts';
import type { Certificate } from './x509.ts';

/** AMD's arc of certificate extensions (AMD 57230, VCEK and KDS interface, tables 8 to 12). */
export const AMD_EXTENSION = '1.3.6.1.4.1.3704.1';
const STRUCTURE_VERSION = `${AMD_EXTENSION}.1`;
const PRODUCT_NAME = `${AMD_EXTENSION}.2`;
const HARDWARE_ID = `${AMD_EXTENSION}.4`;
const CSP_ID = `${AMD_EXTENSION}.5`;

const HARDWARE_ID_BYTES = 64;
/** Turin's chips have a short id; reports carry it in the first bytes of CHIP_ID. */
const TURIN_HARDWARE_ID_BYTES = 8;
const OCTET_STRING_HEADER_BYTES = 2;

/** Suffix of the patch level extension for each part, and for the bytes of the TCB that the products reserve. */
const COMPONENT_SUFFIXES = { bootloader: 1, tee: 2, snp: 3, microcode: 8, fmc: 9 } as const;
const CLASSIC_RESERVED = { 4: 2, 5: 3, 6: 4, 7: 5 } as const;
const TURIN_RESERVED = { 5: 4, 6: 5, 7: 6 } as const;

/** A certificate of the key that signs reports: the chip's own (VCEK), or a cloud provider's (VLEK). Not verified yet. */
export interface AmdLeaf {
  readonly certificate: Certificate;
  readonly kind: 'VCEK' | 'VLEK';
  readonly product: AmdProduct;
  /** As written, with the stepping where AMD gives it: `Milan-B0`. */
  readonly productName: string;
  /** The TCB that the key is derived from, as 8 bytes in the product's TCB_VERSION layout. */
  readonly tcb: Uint8Array;
  /** VCEK: id of the chip, 64 bytes, or 8 on Turin. */
  readonly hardwareId: Uint8Array | undefined;
  /** VLEK: id of the cloud provider that holds the key, such as `CN=cc-us-east-2.amazonaws.com`. */
  readonly cspId: string | undefined;
}

/** Whether a certificate is of a key that signs reports, by its extensions. */
export function isAmdLeaf({ extensions }: Certificate): boolean {
  return extensions.has(PRODUCT_NAME) || extensions.has(HARDWARE_ID) || extensions.has(CSP_ID);
}

/**
 * Reads AMD's extensions of a VCEK or VLEK certificate.
 *
 * @throws {Refusal} `parse/der`; `certificate/wrong-role` unless it has a hardware id or a provider's id, and not both;
 *   `certificate/wrong-product` for a product that is not known
 */
export function parseAmdLeaf(certificate: Certificate): AmdLeaf {
  parseByte(certificate, STRUCTURE_VERSION, 'structure version');
  const productName = parseText(certificate, PRODUCT_NAME, 'product name');
  const product =
    productOfName(productName) ?? refuse('certificate/wrong-product', `product name ${productName} is not known`);
  const hardwareId = parseHardwareId(certificate.extensions.get(HARDWARE_ID), product);
  const cspId = certificate.extensions.has(CSP_ID) ? parseText(certificate, CSP_ID, 'CSP id') : undefined;
  if ((hardwareId === undefined) === (cspId === undefined))
    refuse('certificate/wrong-role', 'a VCEK certificate has a hardware id and a VLEK certificate a CSP id, not both');
  const kind = hardwareId === undefined ? 'VLEK' : 'VCEK';
  return { certificate, kind, product, productName, tcb: parseTcb(certificate, product), hardwareId, cspId };
}

function parseTcb(certificate: Certificate, product: AmdProduct): Uint8Array {
  const tcb = new Uint8Array(TCB_BYTES);
  const layout = tcbLayout(product);
  for (const [component, suffix] of Object.entries(COMPONENT_SUFFIXES)) {
    const oid = `${AMD_EXTENSION}.3.${suffix}`;
    const index = Object.entries(layout).find(([name]) => name === component)?.[1];
    if (index !== undefined) tcb[index] = parseByte(certificate, oid, `${component} patch level`);
    else if (certificate.extensions.has(oid))
      refuse('parse/der', `a ${product} certificate has a patch level of ${component}`);
  }
  for (const [suffix, index] of Object.entries(product === 'Turin' ? TURIN_RESERVED : CLASSIC_RESERVED)) {
    const oid = `${AMD_EXTENSION}.3.${suffix}`;
    if (certificate.extensions.has(oid)) tcb[index] = parseByte(certificate, oid, `patch level ${suffix}`);
  }
  return tcb;
}

/** AMD writes the id bare, and in newer certificates as an OCTET STRING inside the extension. */
function parseHardwareId(content: Uint8Array | undefined, product: AmdProduct): Uint8Array | undefined {
  if (content === undefined) return undefined;
  const lengths = product === 'Turin' ? [TURIN_HARDWARE_ID_BYTES, HARDWARE_ID_BYTES] : [HARDWARE_ID_BYTES];
  if (lengths.includes(content.length)) return content;
  const id = lengths.includes(content.length - OCTET_STRING_HEADER_BYTES)
    ? sole(content, DER.octetString, 'hardware id')
    : undefined;
  return (
    id ?? refuse('parse/der', `hardware id of ${product} is ${toHex(content)}, expected ${lengths.join(' or ')} bytes`)
  );
}

function parseByte({ extensions }: Certificate, oid: string, field: string): number {
  const reader = new DerReader(extensions.get(oid) ?? refuse('parse/der', `certificate has no ${field}`));
  const value = reader.integer(field);
  reader.finish(field);
  if (value > 0xff) refuse('parse/der', `${field} is ${value}, at most 255 is possible`);
  return value;
}

function parseText({ extensions }: Certificate, oid: string, field: string): string {
  const content = extensions.get(oid) ?? refuse('parse/der', `certificate has no ${field}`);
  return fromUtf8(sole(content, DER.ia5String, field), 'CFN_EVIDENCE_MALFORMED');
}

function sole(bytes: Uint8Array, tag: number, field: string): Uint8Array {
  const reader = new DerReader(bytes);
  const content = reader.take(tag, field);
  reader.finish(field);
  return content;
}
