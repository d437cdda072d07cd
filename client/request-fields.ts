import type { Field } from './seal.ts';

/** Fields of one connection, which mean nothing at the other end (RFC 9110 §7.6.1), and those that sealing sets itself. */
const DROPPED = new Set([
  'connection',
  'content-length',
  'date',
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

/**
 * The header fields of a sealed request: the caller's end-to-end ones, in order and in lower case, then what the worker checks.
 * `cfn-` fields are the system's own words; a caller's are dropped.
 *
 * @param bodyBytes length of the body, when it is known
 */
export function sealedFields(
  headers: readonly Field[],
  version: string,
  now: Date,
  bodyBytes: number | undefined,
): Field[] {
  const options = new Set(
    headers.flatMap(([name, value]) =>
      name.toLowerCase() === 'connection' ? value.toLowerCase().split(/[\s,]+/) : [],
    ),
  );
  const fields: Field[] = [];
  for (const [rawName, value] of headers) {
    const name = rawName.toLowerCase();
    if (!DROPPED.has(name) && !options.has(name) && !name.startsWith('cfn-')) fields.push([name, value.trim()]);
  }
  if (bodyBytes !== undefined) fields.push(['content-length', String(bodyBytes)]);
  fields.push(['cfn-function-version', version], ['date', now.toUTCString()]); // toUTCString is IMF-fixdate (ECMA-262 §21.4.4.43)
  return fields;
}
