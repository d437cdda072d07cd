import { CfnError } from '../proto/index.ts';

/** Which key of which token a PKCS#11 URI (RFC 7512) names, and by which module it is reached. */
export interface Pkcs11Uri {
  /** What the token's own words must be; what is left out may be anything. */
  readonly token: Readonly<Partial<Record<'token' | 'manufacturer' | 'serial' | 'model', string>>>;
  readonly slotId?: bigint;
  /** CKA_LABEL of the key; its versions are told apart by CKA_ID. */
  readonly object: string;
  /** Path of the module, a shared library. */
  readonly modulePath: string;
  /** Path of a file with the PIN. */
  readonly pinFile?: string;
}

const TOKEN_ATTRIBUTES = ['token', 'manufacturer', 'serial', 'model'] as const;
const KNOWN = new Set(['slot-id', 'object', 'type', 'module-path', 'pin-source', ...TOKEN_ATTRIBUTES]);

/**
 * Parses `pkcs11:token=…;object=…?module-path=/…&pin-source=file:/…`.
 *
 * @throws {CfnError} `CFN_USAGE` when token, object or module is left open, or an attribute is unknown here. `pin-value` is one of
 *   these: a command line can be read by others.
 */
export function parsePkcs11Uri(uri: string): Pkcs11Uri {
  const [path = '', query = '', ...more] = uri.slice('pkcs11:'.length).split('?');
  if (more.length > 0) throw wrong('it has more than one `?`');
  const attributes = new Map<string, string>();
  for (const part of [...path.split(';'), ...query.split('&')].filter((text) => text !== '')) {
    const at = part.indexOf('=');
    const name = part.slice(0, Math.max(at, 0));
    if (!KNOWN.has(name))
      throw wrong(`the attribute ${name === '' ? 'without a name' : name} is not one that is taken here`);
    if (attributes.has(name)) throw wrong(`${name} is there twice`);
    attributes.set(name, decode(part.slice(at + 1)));
  }
  const need = (name: string): string => {
    const value = attributes.get(name);
    if (value === undefined || value === '') throw wrong(`expected ${name}=…`);
    return value;
  };
  if ((attributes.get('type') ?? 'secret-key') !== 'secret-key') throw wrong('type: expected secret-key');
  const token = Object.fromEntries(
    TOKEN_ATTRIBUTES.flatMap((name) => (attributes.has(name) ? [[name, attributes.get(name)]] : [])),
  ) as Pkcs11Uri['token'];
  const slot = attributes.get('slot-id');
  if (slot !== undefined && !/^\d{1,18}$/.test(slot)) throw wrong('slot-id: expected a number');
  if (slot === undefined && token.token === undefined && token.serial === undefined)
    throw wrong('expected token=…, serial=… or slot-id=…');
  const pinSource = attributes.get('pin-source');
  return {
    token,
    ...(slot !== undefined && { slotId: BigInt(slot) }),
    object: need('object'),
    modulePath: need('module-path'),
    ...(pinSource !== undefined && { pinFile: pinSource.replace(/^file:(\/\/(?=\/))?/, '') }),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw wrong('its percent encoding is broken', cause);
  }
}

const wrong = (what: string, cause?: unknown): CfnError =>
  new CfnError('CFN_USAGE', `--root-key pkcs11: ${what}`, { cause });
