import { DER, soleSequence } from './der.ts';
import { refuse } from './reasons.ts';

/**
 * Reads `Extensions` (RFC 5280 §4.2), of certificates, CRLs and OCSP answers alike: OID → content. A critical extension that is
 * not among `understood` refuses the whole, and so does one given twice.
 *
 * @throws {Refusal} `parse/der`, `parse/duplicate`
 */
export function parseExtensions(bytes: Uint8Array, understood: readonly string[]): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  const list = soleSequence(bytes, 'extensions');
  while (!list.done) {
    const item = list.sequence('extension');
    const oid = item.oid('extension id');
    const critical = item.flag('critical');
    const value = item.take(DER.octetString, oid);
    item.finish('extension');
    if (found.has(oid)) refuse('parse/duplicate', `extension ${oid} is there twice`);
    if (critical && !understood.includes(oid)) refuse('parse/der', `unknown critical extension ${oid}`);
    found.set(oid, value);
  }
  return found;
}
