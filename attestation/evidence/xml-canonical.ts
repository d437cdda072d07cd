import { utf8 } from '../../proto/index.ts';
import type { XmlElement } from './xml.ts';

/**
 * Canonical XML 1.1 (W3C, 2008; inclusive, without comments) of an element and all below it. `omit` leaves one element out, which is
 * XML-DSig's enveloped-signature transform. Versions 1.0 and 1.1 differ in `xml:` attributes alone, which the parser refuses.
 */
export function canonicalize(element: XmlElement, omit?: XmlElement): Uint8Array<ArrayBuffer> {
  const out: string[] = [];
  // The top shows every namespace in scope, also those declared above it.
  write(element, [...element.scope.keys()], new Map([['', '']]), omit, out);
  return utf8(out.join(''));
}

/** `prefixes`: those whose namespace may differ from `shown`, what is in force where the output stands. */
function write(
  element: XmlElement,
  prefixes: readonly string[],
  shown: ReadonlyMap<string, string>,
  omit: XmlElement | undefined,
  out: string[],
): void {
  const news = prefixes.filter((prefix) => shown.get(prefix) !== element.scope.get(prefix)).sort(byCode);
  out.push('<', element.name);
  for (const prefix of news)
    out.push(prefix === '' ? ' xmlns="' : ` xmlns:${prefix}="`, escapeAttribute(element.scope.get(prefix) ?? ''), '"');
  const attributes = [...element.attributes].sort(
    (a, b) => byCode(a.namespace, b.namespace) || byCode(a.local, b.local),
  );
  for (const { name, value } of attributes) out.push(' ', name, '="', escapeAttribute(value), '"');
  out.push('>');
  for (const child of element.children) {
    if (typeof child === 'string') out.push(escapeText(child));
    else if (child !== omit) write(child, child.declared, element.scope, omit, out);
  }
  out.push('</', element.name, '>');
}

/** By code point, which for the ASCII of names and namespaces is JavaScript's order. */
function byCode(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const TEXT: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '\r': '&#xD;' };
const ATTRIBUTE: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '"': '&quot;',
  '\t': '&#x9;',
  '\n': '&#xA;',
  '\r': '&#xD;',
};

function escapeText(text: string): string {
  return text.replaceAll(/[&<>\r]/g, (character) => TEXT[character] ?? character);
}

function escapeAttribute(value: string): string {
  return value.replaceAll(/[&<"\t\n\r]/g, (character) => ATTRIBUTE[character] ?? character);
}
