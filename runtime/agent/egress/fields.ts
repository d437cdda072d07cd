/** What the connection needs for itself, or would mean something to a proxy on the way: not a function's to set (Fetch Standard §2.2.2). */
const OWN = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** Not for another origin than the one they were meant for. */
const SECRET = new Set(['authorization', 'cookie', 'proxy-authorization']);

type Fields = readonly (readonly [name: string, value: string])[];

/** The function's header fields as they are sent; names are in lower case. */
export const sentFields = (fields: Fields): Fields =>
  fields.filter(([name]) => !OWN.has(name) && !name.startsWith('proxy-'));

export const withoutSecrets = (fields: Fields): Fields => fields.filter(([name]) => !SECRET.has(name));
export const withoutContent = (fields: Fields): Fields => fields.filter(([name]) => !name.startsWith('content-'));

/** Node's flat list of what a server answered, without what belongs to the connection. */
export function receivedFields(raw: readonly string[]): [string, string][] {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = (raw[i] ?? '').toLowerCase();
    if (!OWN.has(name) || name === 'content-length') fields.push([name, (raw[i + 1] ?? '').trim()]);
  }
  return fields;
}
