import { fromBase64 } from './base64.ts';
import { refuse } from './reasons.ts';
import { childElements, textOf, type XmlElement } from './xml.ts';
import { parseCertificate, type Certificate } from './x509.ts';

const DSIG = 'http://www.w3.org/2000/09/xmldsig#';
const C14N_11 = 'http://www.w3.org/2006/12/xml-c14n11';
const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature';
const SHA384 = 'http://www.w3.org/2001/04/xmldsig-more#sha384';
const ECDSA_SHA384 = 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384';
const CERTIFICATES_MAX = 8;

/** An enveloped XML-DSig signature of the one form that NVIDIA uses. */
export interface RimSignature {
  /** The element that the enveloped-signature transform leaves out. */
  readonly element: XmlElement;
  /** What is signed, in canonical form. */
  readonly signedInfo: XmlElement;
  /** SHA-384 of the document without the signature. */
  readonly digest: Uint8Array;
  /** r ‖ s, P-384. */
  readonly value: Uint8Array;
  /** Leaf first. */
  readonly certificates: readonly Certificate[];
}

/**
 * Parses `ds:Signature`, with each element, attribute and algorithm in its one place: whatever is more, or other, is refused.
 *
 * @throws {Refusal} `parse/xml`, `parse/base64`, `parse/unsupported-algorithm`, and those of {@link parseCertificate}
 */
export function parseRimSignature(element: XmlElement): RimSignature {
  const [signedInfo, signatureValue, keyInfo] = expectChildren(element, ['SignedInfo', 'SignatureValue', 'KeyInfo']);
  const [canonicalization, method, reference] = expectChildren(signedInfo, [
    'CanonicalizationMethod',
    'SignatureMethod',
    'Reference',
  ]);
  expectAlgorithm(canonicalization, C14N_11);
  expectAlgorithm(method, ECDSA_SHA384);
  const [transforms, digestMethod, digestValue] = expectChildren(
    reference,
    ['Transforms', 'DigestMethod', 'DigestValue'],
    { URI: '' },
  );
  const [enveloped, canonical] = expectChildren(transforms, ['Transform', 'Transform']);
  expectAlgorithm(enveloped, ENVELOPED);
  expectAlgorithm(canonical, C14N_11);
  expectAlgorithm(digestMethod, SHA384);
  return {
    element,
    signedInfo,
    digest: bytesOf(digestValue, 48),
    value: bytesOf(signatureValue, 96),
    certificates: parseCertificates(keyInfo),
  };
}

function parseCertificates(keyInfo: XmlElement): Certificate[] {
  const [data] = expectChildren(keyInfo, ['X509Data']);
  const elements = childElements(data);
  if (elements.length === 0 || elements.length > CERTIFICATES_MAX)
    refuse('parse/xml', `RIM signature has ${elements.length} certificates, 1 to ${CERTIFICATES_MAX} are taken`);
  return elements.map((element) => {
    expectName(element, 'X509Certificate');
    expectAttributes(element, {});
    return parseCertificate(bytesOf(element));
  });
}

/** The children, which must be just these. */
function expectChildren<const Names extends readonly string[]>(
  element: XmlElement,
  names: Names,
  attributes: Readonly<Record<string, string>> = {},
): { [K in keyof Names]: XmlElement } {
  expectAttributes(element, attributes);
  const children = childElements(element);
  if (children.length !== names.length)
    refuse('parse/xml', `<${element.name}> has ${children.length} elements, expected ${names.join(', ')}`);
  for (const [i, name] of names.entries()) expectName(children[i] ?? element, name);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as many as there are names
  return children as { [K in keyof Names]: XmlElement };
}

function expectName(element: XmlElement, local: string): void {
  if (element.local !== local || element.namespace !== DSIG)
    refuse('parse/xml', `RIM signature has <${element.name}> where ${local} was expected`);
}

function expectAttributes(element: XmlElement, expected: Readonly<Record<string, string>>): void {
  const entries = Object.entries(expected);
  const same = entries.every(([local, value]) =>
    element.attributes.some((attribute) => attribute.name === local && attribute.value === value),
  );
  if (!same || element.attributes.length !== entries.length)
    refuse('parse/xml', `<${element.name}> has other attributes than ${JSON.stringify(expected)}`);
}

function expectAlgorithm(element: XmlElement, algorithm: string): void {
  const [attribute, ...others] = element.attributes;
  if (attribute?.name !== 'Algorithm' || others.length > 0 || element.children.length > 0)
    refuse('parse/xml', `<${element.name}> has more, or less, than an algorithm`);
  if (attribute.value !== algorithm)
    refuse('parse/unsupported-algorithm', `<${element.name}> names ${attribute.value}, expected ${algorithm}`);
}

function bytesOf(element: XmlElement, length?: number): Uint8Array {
  expectAttributes(element, {});
  const bytes = fromBase64(textOf(element).replaceAll(/[\t\n\r ]+/g, ''));
  if (length !== undefined && bytes.length !== length)
    refuse('parse/xml', `<${element.name}> has ${bytes.length} bytes, expected ${length}`);
  return bytes;
}
