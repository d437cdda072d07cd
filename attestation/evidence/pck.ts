import { DER, DerReader, soleSequence } from './der.ts';
import { refuse } from './reasons.ts';
import type { Certificate } from './x509.ts';

/** Intel's SGX extension of a PCK certificate (Intel SGX PCK Certificate and CRL Profile, §1.3.5). */
export const SGX_EXTENSION = '1.2.840.113741.1.13.1';

export interface SgxExtension {
  /** 6 bytes: family, model, stepping, platform, custom SKU. */
  readonly fmspc: Uint8Array;
  /** 2 bytes. */
  readonly pceId: Uint8Array;
  readonly pceSvn: number;
  /** The sixteen component SVNs, which TCB matching uses (not the raw CPUSVN). */
  readonly tcbComponents: readonly number[];
}

/**
 * @throws {Refusal} `certificate/wrong-role` for a certificate without the extension, `parse/der` for a broken one.
 */
export function parseSgxExtension(certificate: Certificate): SgxExtension {
  const bytes = certificate.extensions.get(SGX_EXTENSION);
  if (bytes === undefined) refuse('certificate/wrong-role', 'the certificate has no SGX extension');
  const items = readItems(soleSequence(bytes, 'SGX extension'));
  const tcb = readItems(new DerReader(take(items, '2', DER.sequence)));
  return {
    fmspc: sized(take(items, '4', DER.octetString), 6, 'FMSPC'),
    pceId: sized(take(items, '3', DER.octetString), 2, 'PCE-ID'),
    pceSvn: integer(tcb, '2.17'),
    tcbComponents: Array.from({ length: 16 }, (_, i) => integer(tcb, `2.${i + 1}`)),
  };
}

type Items = ReadonlyMap<string, { tag: number; content: Uint8Array; bytes: Uint8Array }>;

/** Reads (OID, value) pairs; keys are the OID below {@link SGX_EXTENSION}. */
function readItems(list: DerReader): Items {
  const items = new Map<string, { tag: number; content: Uint8Array; bytes: Uint8Array }>();
  while (!list.done) {
    const item = list.sequence('SGX extension item');
    const oid = item.oid('SGX extension item');
    if (!oid.startsWith(`${SGX_EXTENSION}.`)) malformed(`SGX extension holds ${oid}`);
    const key = oid.slice(SGX_EXTENSION.length + 1);
    if (items.has(key)) malformed(`SGX extension item ${key} is there twice`);
    items.set(key, item.any('SGX extension item'));
    item.finish('SGX extension item');
  }
  return items;
}

function take(items: Items, key: string, tag: number): Uint8Array {
  const item = items.get(key);
  if (item?.tag !== tag) malformed(`SGX extension lacks item ${key}`);
  return item.content;
}

function integer(items: Items, key: string): number {
  const item = items.get(key);
  if (item === undefined) malformed(`SGX extension lacks item ${key}`);
  return new DerReader(item.bytes).integer(`SGX extension item ${key}`);
}

function sized(bytes: Uint8Array, size: number, what: string): Uint8Array {
  if (bytes.length !== size) malformed(`${what} has ${bytes.length} bytes, expected ${size}`);
  return bytes;
}

function malformed(message: string): never {
  refuse('parse/der', message);
}
