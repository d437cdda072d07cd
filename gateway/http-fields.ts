/** Fields of one connection, never forwarded (RFC 9110 §7.6.1), and framing, which each hop makes for itself. */
const HOP_BY_HOP = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** `cfn-` fields are the system's own words: a function may not speak them through the gateway. */
function forwarded(name: string, connectionOptions: ReadonlySet<string>): boolean {
  return !HOP_BY_HOP.has(name) && !name.startsWith('cfn-') && !connectionOptions.has(name);
}

const listed = (value: string | undefined): ReadonlySet<string> =>
  new Set(value?.split(',').map((option) => option.trim().toLowerCase()));

/** Node's flat list of header fields as pairs, without one. What else must not go on to a function is left out by who seals. */
export function requestFields(rawHeaders: readonly string[], without: string | undefined): [string, string][] {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (name.toLowerCase() !== without) fields.push([name, rawHeaders[i + 1] ?? '']);
  }
  return fields;
}

/** The function's header fields that go on to the caller, flat, as `writeHead` takes them. */
export function responseFields(fields: readonly (readonly [string, string])[]): string[] {
  const options = listed(fields.find(([name]) => name.toLowerCase() === 'connection')?.[1]);
  return fields.filter(([name]) => forwarded(name.toLowerCase(), options)).flat();
}
