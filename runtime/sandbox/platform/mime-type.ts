/** A media type (MIME Sniffing Standard §4). */
export interface MimeType {
  /** `type/subtype`, lower case. */
  readonly essence: string;
  /** Names are lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const QUOTED = /^[\t\x20-\x7e\x80-\xff]*$/;
const trim = (text: string): string => text.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');

/** MIME Sniffing §4.4. */
export function parseMimeType(input: string): MimeType | undefined {
  const text = trim(input);
  const semicolon = text.indexOf(';');
  const essence = (semicolon < 0 ? text : text.slice(0, semicolon)).replace(/[\t\n\r ]+$/, '').toLowerCase();
  const [type = '', subtype = '', ...rest] = essence.split('/');
  if (rest.length > 0 || !TOKEN.test(type) || !TOKEN.test(subtype)) return undefined;
  const parameters = new Map<string, string>();
  let at = semicolon < 0 ? text.length : semicolon;
  while (at < text.length) {
    at += 1;
    while (/[\t\n\r ]/.test(text.charAt(at))) at++;
    let end = at;
    while (end < text.length && text.charAt(end) !== ';' && text.charAt(end) !== '=') end++;
    const name = text.slice(at, end).toLowerCase();
    at = end;
    if (text.charAt(at) !== '=') continue;
    at += 1;
    let value = '';
    if (text.charAt(at) === '"') {
      for (at += 1; at < text.length && text.charAt(at) !== '"'; at++) {
        if (text.charAt(at) === '\\' && at + 1 < text.length) at += 1;
        value += text.charAt(at);
      }
      while (at < text.length && text.charAt(at) !== ';') at++;
    } else {
      end = at;
      while (end < text.length && text.charAt(end) !== ';') end++;
      value = text.slice(at, end).replace(/[\t\n\r ]+$/, '');
      at = end;
      if (value === '') continue;
    }
    if (TOKEN.test(name) && QUOTED.test(value) && !parameters.has(name)) parameters.set(name, value);
  }
  return { essence, parameters };
}

/** MIME Sniffing §4.5. */
export function formatMimeType({ essence, parameters }: MimeType): string {
  let text = essence;
  for (const [name, value] of parameters)
    text += `;${name}=${TOKEN.test(value) ? value : `"${value.replace(/["\\]/g, '\\$&')}"`}`;
  return text;
}

/** Fetch Standard §2.2.2, "extract a MIME type": of several values in one header, the last that is one. */
export function extractMimeType(header: string | null): MimeType | undefined {
  let found: MimeType | undefined;
  let charset: string | undefined;
  for (const value of (header ?? '').match(/("(\\.|[^"\\])*"|[^",])+/g) ?? []) {
    const type = parseMimeType(value);
    if (type === undefined || type.essence === '*/*') continue;
    const parameters = new Map(type.parameters);
    if (type.essence !== found?.essence) charset = parameters.get('charset');
    else if (!parameters.has('charset') && charset !== undefined) parameters.set('charset', charset);
    found = { essence: type.essence, parameters };
  }
  return found;
}
