import { parseRimSignature, type RimSignature } from './rim-signature.ts';
import { refuse } from './reasons.ts';
import { attributeOf, childElements, parseXml, type XmlElement } from './xml.ts';

const SWID = 'http://standards.iso.org/iso/19770/-2/2015/schema.xsd';
const DSIG = 'http://www.w3.org/2000/09/xmldsig#';
const SHA384 = 'http://www.w3.org/2001/04/xmlenc#sha384';
/** Most values that one index may have. */
const ALTERNATIVES_MAX = 16;
/** SPDM blocks are counted from 1 to 254, reference values from 0. */
const INDEX_MAX = 253;

/** One reference value ("golden measurement"), by the RIM's index, from 0. */
export interface GoldenValue {
  readonly index: number;
  readonly name: string;
  readonly active: boolean;
  /** Bytes of the value. */
  readonly size: number;
  /** Any one of them is accepted; lower-case hexadecimal. */
  readonly alternatives: readonly string[];
}

/** What a RIM is about. `kind` follows from its content; file names are anybody's. */
export interface RimSubject {
  readonly kind: 'driver' | 'vbios' | 'switch-bios';
  /** Such as `GH100`. */
  readonly product: string;
  readonly edition: string;
  /** Driver version, or VBIOS version as NVIDIA prints it. */
  readonly version: string;
  readonly tagId: string;
}

/** A reference integrity manifest (TCG RIM IM in an ISO 19770-2:2015 SWID tag), parsed; nothing of it is verified. */
export interface Rim extends RimSubject {
  /** The whole document. */
  readonly root: XmlElement;
  readonly signature: RimSignature;
  readonly values: readonly GoldenValue[];
}

/**
 * Parses a signed RIM. The document's root is what is signed, and its last child is the only element of the signature's namespace;
 * so there is one tree, and what is read from it is what {@link canonicalize} gives to the digest.
 *
 * @throws {Refusal} `parse/xml`, `parse/doctype`, `parse/length`, `parse/duplicate`, `parse/unsupported-algorithm`, `collateral/rim-empty`
 */
export function parseRim(bytes: Uint8Array): Rim {
  const root = parseXml(bytes);
  requireName(root, SWID, 'SoftwareIdentity');
  const children = childElements(root);
  const signature = children.pop();
  if (signature === undefined) refuse('parse/xml', 'RIM is empty');
  requireName(signature, DSIG, 'Signature');
  for (const child of children) refuseForeign(child);
  return {
    root,
    signature: parseRimSignature(signature),
    values: parseGoldenValues(root),
    ...parseSubject(root, children),
  };
}

/**
 * Reads the reference values of a SWID tag, active or not.
 *
 * @throws {Refusal} `parse/xml`, `parse/duplicate` for an index given twice, `collateral/rim-empty` for none that is active
 */
export function parseGoldenValues(root: XmlElement): GoldenValue[] {
  const resources = childElements(sole(childElements(root), 'Payload'));
  const values: GoldenValue[] = [];
  const seen = new Set<number>();
  for (const resource of resources) {
    requireName(resource, SWID, 'Resource');
    if (childElements(resource).length > 0) refuse('parse/xml', 'a RIM resource has elements');
    if (attributeOf(resource, 'type') !== 'Measurement') continue;
    const value = parseResource(resource);
    if (seen.has(value.index)) refuse('parse/duplicate', `RIM index ${value.index} is there twice`);
    seen.add(value.index);
    values.push(value);
  }
  if (!values.some(({ active }) => active)) refuse('collateral/rim-empty', 'RIM has no active reference value');
  return values;
}

function parseResource(resource: XmlElement): GoldenValue {
  const index = number(resource, 'index', INDEX_MAX);
  const what = `RIM index ${index}`;
  const active = required(resource, 'active');
  if (active !== 'True' && active !== 'False') refuse('parse/xml', `${what} is active '${active}'`);
  const count = number(resource, 'alternatives', ALTERNATIVES_MAX);
  const hashes = resource.attributes.filter(({ namespace }) => namespace === SHA384);
  if (count === 0 || hashes.length !== count)
    refuse('parse/xml', `${what} has ${hashes.length} values and says ${count} alternatives`);
  const alternatives = Array.from({ length: count }, (_, i) => {
    const hash = attributeOf(resource, `Hash${i}`, SHA384)?.toLowerCase();
    if (hash === undefined || hash.length % 2 !== 0 || !/^[0-9a-f]+$/.test(hash))
      refuse('parse/xml', `${what}: Hash${i} is missing, or not hexadecimal`);
    return hash;
  });
  const size = number(resource, 'size', 0xffff);
  return { index, name: required(resource, 'name'), active: active === 'True', size, alternatives };
}

function parseSubject(root: XmlElement, children: readonly XmlElement[]): RimSubject {
  const meta = sole(children, 'Meta');
  const version = required(meta, 'colloquialVersion');
  const edition = required(meta, 'edition');
  // Five groups of two hexadecimal digits; driver versions have decimal ones, and other counts.
  const vbios = /^[0-9A-Fa-f]{2}(?:\.[0-9A-Fa-f]{2}){4}$/.test(version);
  const kind = edition === 'SWITCH' ? 'switch-bios' : vbios ? 'vbios' : 'driver';
  return { kind, product: required(meta, 'product'), edition, version, tagId: required(root, 'tagId') };
}

/** No signature, nor a part of one, anywhere but in its place. */
function refuseForeign(element: XmlElement): void {
  if (element.namespace !== SWID) refuse('parse/xml', `RIM has a foreign element <${element.name}>`);
  for (const child of element.children) if (typeof child !== 'string') refuseForeign(child);
}

function requireName(element: XmlElement, namespace: string, local: string): void {
  if (element.local !== local || element.namespace !== namespace)
    refuse('parse/xml', `RIM has <${element.name}> where ${local} was expected`);
}

function sole(elements: readonly XmlElement[], local: string): XmlElement {
  const [found, ...others] = elements.filter((element) => element.local === local && element.namespace === SWID);
  if (found === undefined || others.length > 0)
    refuse('parse/xml', `RIM needs one ${local}, has ${others.length + (found === undefined ? 0 : 1)}`);
  return found;
}

function required(element: XmlElement, local: string): string {
  return attributeOf(element, local) ?? refuse('parse/xml', `<${element.name}> has no ${local}`);
}

function number(element: XmlElement, local: string, max: number): number {
  const text = required(element, local);
  const value = /^(?:0|[1-9]\d{0,5})$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) refuse('parse/xml', `<${element.name}> has ${local} '${text}', at most ${max} is possible`);
  return value;
}
