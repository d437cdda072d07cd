import { refuse } from './reasons.ts';

/** Largest document, in bytes; NVIDIA's RIMs have 20 to 26 kB. */
const XML_BYTES_MAX = 512 * 1024;
/** Deepest nesting; RIMs have six levels. */
const DEPTH_MAX = 16;
/** Most attributes and namespace declarations of one element; RIMs have about a dozen. */
const ATTRIBUTES_MAX = 64;
/** Most namespaces in scope anywhere; canonical form writes them all at its top. */
const NAMESPACES_MAX = 32;

export interface XmlAttribute {
  readonly name: string;
  readonly local: string;
  /** Empty for an attribute without a prefix. */
  readonly namespace: string;
  readonly value: string;
}

/** An element with its namespaces resolved. Text is a child string, never empty; character references are replaced. */
export interface XmlElement {
  /** As written, with its prefix. */
  readonly name: string;
  readonly local: string;
  readonly namespace: string;
  /** Namespace declarations not among them. */
  readonly attributes: readonly XmlAttribute[];
  /** Prefixes declared here; the default namespace has the prefix ''. */
  readonly declared: readonly string[];
  /** Prefix → namespace, of all that is in scope. */
  readonly scope: ReadonlyMap<string, string>;
  readonly children: readonly (XmlElement | string)[];
}

const NAME = '(?:[A-Za-z_][A-Za-z0-9._-]*:)?[A-Za-z_][A-Za-z0-9._-]*';
const DECLARATION =
  /<\?xml version=(?:"1\.0"|'1\.0')(?: encoding=(?:"UTF-8"|'UTF-8'|"utf-8"|'utf-8'))?(?: standalone=(?:"yes"|'yes'|"no"|'no'))? ?\?>/y;
const START = new RegExp(`<(${NAME})`, 'y');
const ATTRIBUTE = new RegExp(`[\\t\\n ]+(${NAME})[\\t\\n ]*=[\\t\\n ]*(?:"([^"<]*)"|'([^'<]*)')`, 'y');
const START_END = /[\t\n ]*(\/?)>/y;
const END = new RegExp(`</(${NAME})[\\t\\n ]*>`, 'y');
const SPACE = /[\t\n ]*/y;
const REFERENCE = /&(?:#(\d{1,7});|#x([0-9A-Fa-f]{1,6});|(amp|lt|gt|quot|apos);)?/g;
// oxlint-disable-next-line no-control-regex -- it is these that are refused
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/**
 * Parses the subset of XML 1.0 with namespaces that signed documents need, in time linear to their length: UTF-8, elements,
 * attributes, text, the five predefined entities and character references; names are ASCII. Everything else that could make two
 * readers see two documents is refused: DOCTYPE, entities, comments, CDATA, processing instructions, `xml:` attributes.
 *
 * @throws {Refusal} `parse/xml`, `parse/doctype`, `parse/length`
 */
export function parseXml(bytes: Uint8Array): XmlElement {
  if (bytes.length > XML_BYTES_MAX)
    refuse('parse/length', `XML has ${bytes.length} bytes, at most ${XML_BYTES_MAX} are taken`);
  const cursor: Cursor = { text: decode(bytes), at: 0 };
  take(cursor, DECLARATION);
  take(cursor, SPACE);
  const root = parseElement(cursor, new Map([['', '']]), 1);
  take(cursor, SPACE);
  if (cursor.at < cursor.text.length) refuseMarkup(cursor, 'behind the root element');
  return root;
}

/** The child elements; text between them must be white space. */
export function childElements(element: XmlElement): XmlElement[] {
  return element.children.filter((child): child is XmlElement => {
    if (typeof child !== 'string') return true;
    if (/[^\t\n\r ]/.test(child)) refuse('parse/xml', `<${element.name}> has text between its elements`);
    return false;
  });
}

/** The text of an element that has nothing else. */
export function textOf(element: XmlElement): string {
  const { children, name } = element;
  if (children.length > 1 || typeof children[0] === 'object')
    refuse('parse/xml', `<${name}> has other content than text`);
  return typeof children[0] === 'string' ? children[0] : '';
}

export function attributeOf(element: XmlElement, local: string, namespace = ''): string | undefined {
  return element.attributes.find((attribute) => attribute.local === local && attribute.namespace === namespace)?.value;
}

/** Where reading is; `at` only ever grows. */
interface Cursor {
  readonly text: string;
  at: number;
}

function take(cursor: Cursor, pattern: RegExp): RegExpExecArray | undefined {
  pattern.lastIndex = cursor.at;
  const match = pattern.exec(cursor.text);
  if (match === null) return undefined;
  cursor.at = pattern.lastIndex;
  return match;
}

/** A byte order mark counts as a character, and is refused as one that stands before the root. */
function decode(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    refuse('parse/xml', 'XML is not UTF-8', { cause });
  }
  if (FORBIDDEN.test(text)) refuse('parse/xml', 'XML has a control character');
  // Line ends are one LF for every reader (XML 1.0 §2.11).
  return text.includes('\r') ? text.replaceAll(/\r\n?/g, '\n') : text;
}

function parseElement(cursor: Cursor, outer: ReadonlyMap<string, string>, depth: number): XmlElement {
  if (depth > DEPTH_MAX) refuse('parse/xml', `XML is nested deeper than ${DEPTH_MAX}`);
  const name = take(cursor, START)?.[1] ?? refuseMarkup(cursor, 'where an element was expected');
  const { attributes, declarations } = parseAttributes(cursor, name);
  const end = take(cursor, START_END) ?? refuse('parse/xml', `<${name}> has a malformed attribute`);
  const scope = declarations.size === 0 ? outer : new Map([...outer, ...declarations]);
  if (scope.size > NAMESPACES_MAX) refuse('parse/xml', `over ${NAMESPACES_MAX} namespaces are in scope`);
  const element = {
    name,
    local: localName(name),
    namespace: resolve(name, scope, scope.get('') ?? ''),
    attributes: resolveAttributes(attributes, scope, name),
    declared: [...declarations.keys()],
    scope,
  };
  return { ...element, children: end[1] === '/' ? [] : parseContent(cursor, name, scope, depth) };
}

function parseContent(cursor: Cursor, name: string, scope: ReadonlyMap<string, string>, depth: number) {
  const children: (XmlElement | string)[] = [];
  for (;;) {
    const next = cursor.text.indexOf('<', cursor.at);
    if (next === -1) refuse('parse/xml', `<${name}> is not closed`);
    if (next > cursor.at) {
      const text = cursor.text.slice(cursor.at, next);
      if (text.includes(']]>')) refuse('parse/xml', `<${name}> has a CDATA end in its text`);
      children.push(replaceReferences(text));
      cursor.at = next;
    }
    if (cursor.text.charCodeAt(next + 1) !== SLASH) {
      children.push(parseElement(cursor, scope, depth + 1));
      continue;
    }
    const closed = take(cursor, END)?.[1];
    if (closed !== name) refuse('parse/xml', `<${name}> is closed by </${closed ?? '?'}>`);
    return children;
  }
}
const SLASH = 0x2f;

/** Splits attributes from namespace declarations; a name may come once. */
function parseAttributes(cursor: Cursor, element: string) {
  const attributes = new Map<string, string>();
  const declarations = new Map<string, string>();
  for (let match = take(cursor, ATTRIBUTE); match !== undefined; match = take(cursor, ATTRIBUTE)) {
    const [, name = '', double, single = ''] = match;
    if (attributes.has(name)) refuse('parse/xml', `<${element}> has the attribute ${name} twice`);
    if (attributes.size === ATTRIBUTES_MAX) refuse('parse/xml', `<${element}> has over ${ATTRIBUTES_MAX} attributes`);
    const value = replaceReferences((double ?? single).replaceAll(/[\t\n]/g, ' '));
    attributes.set(name, value);
    if (name === 'xmlns') declare(declarations, '', value);
    else if (name.startsWith('xmlns:')) declare(declarations, localName(name), value);
  }
  return { attributes, declarations };
}

/** Absolute URIs only, as canonical form asks; only the default namespace can be taken back. */
function declare(declarations: Map<string, string>, prefix: string, uri: string): void {
  const reserved =
    prefix.startsWith('xml') ||
    uri.startsWith('http://www.w3.org/XML/') ||
    uri.startsWith('http://www.w3.org/2000/xmlns');
  if (reserved || !(/^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+$/.test(uri) || (uri === '' && prefix === '')))
    refuse('parse/xml', `namespace ${prefix === '' ? '' : `${prefix} `}is bound to '${uri}'`);
  declarations.set(prefix, uri);
}

function resolveAttributes(
  attributes: ReadonlyMap<string, string>,
  scope: ReadonlyMap<string, string>,
  element: string,
): XmlAttribute[] {
  const resolved: XmlAttribute[] = [];
  const seen = new Set<string>();
  for (const [name, value] of attributes) {
    if (name === 'xmlns' || name.startsWith('xmlns:')) continue;
    const attribute = { name, local: localName(name), namespace: resolve(name, scope, ''), value };
    const expanded = `${attribute.local} ${attribute.namespace}`;
    if (seen.has(expanded)) refuse('parse/xml', `<${element}> has the attribute ${name} twice, by two prefixes`);
    seen.add(expanded);
    resolved.push(attribute);
  }
  return resolved;
}

function resolve(name: string, scope: ReadonlyMap<string, string>, unprefixed: string): string {
  const colon = name.indexOf(':');
  if (colon === -1) return unprefixed;
  return scope.get(name.slice(0, colon)) ?? refuse('parse/xml', `the prefix of ${name} is not declared`);
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

function replaceReferences(text: string): string {
  if (!text.includes('&')) return text;
  return text.replaceAll(REFERENCE, (whole, decimal?: string, hexadecimal?: string, entity?: string) => {
    if (entity !== undefined) return ENTITIES[entity] ?? '';
    if (decimal === undefined && hexadecimal === undefined) refuse('parse/xml', 'XML names an entity of its own');
    const code = decimal === undefined ? Number.parseInt(hexadecimal ?? '', 16) : Number(decimal);
    const allowed =
      code === 0x9 ||
      code === 0xa ||
      code === 0xd ||
      (code >= 0x20 && code <= 0xd7ff) ||
      (code >= 0xe000 && code <= 0xfffd) ||
      (code >= 0x1_0000 && code <= 0x10_ffff);
    if (!allowed) refuse('parse/xml', `${whole} is no character`);
    return String.fromCodePoint(code);
  });
}

function refuseMarkup({ text, at }: Cursor, where: string): never {
  const rest = text.slice(at, at + 9);
  if (rest.toUpperCase() === '<!DOCTYPE') refuse('parse/doctype', 'XML has a DOCTYPE');
  if (rest.startsWith('<!--')) refuse('parse/xml', `XML has a comment ${where}`);
  if (rest === '<![CDATA[') refuse('parse/xml', `XML has a CDATA section ${where}`);
  if (rest.startsWith('<?')) refuse('parse/xml', `XML has a processing instruction ${where}`);
  refuse('parse/xml', `XML has '${rest}' ${where}`);
}
