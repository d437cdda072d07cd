import { createHash } from 'node:crypto';
import { z } from 'zod';
import { CfnError, concatBytes, equalBytes, fromUtf8, utf8 } from '../proto/index.ts';
import type { RootKey, RootKeyDeps } from './root-key.ts';

/** How long the service may take for one answer, in ms. */
const ANSWER_MS_MAX = 5000;
const ANSWER_BYTES_MAX = 64 * 1024;
const CONTEXT_BYTES = 32;

const ciphertextSchema = z.object({
  data: z.object({ ciphertext: z.string().regex(/^vault:v\d{1,6}:[A-Za-z0-9+/=]+$/) }),
});
const plaintextSchema = z.object({ data: z.object({ plaintext: z.base64() }) });
const keySchema = z.object({
  data: z.object({
    latest_version: z.int().positive(),
    type: z.string(),
    exportable: z.boolean(),
    allow_plaintext_backup: z.boolean(),
  }),
});

/**
 * A root key in a transit service, by the HTTP API of HashiCorp Vault's transit secrets engine. A wrapped secret is the service's
 * ciphertext, `vault:v<version>:…`, of SHA-256(context) ‖ secret: its `rewrap` takes no associated data, so the context is inside.
 *
 * @param url of the key as in that API, such as `https://vault:8200/v1/transit/keys/cfn-root`
 * @throws {CfnError} `CFN_USAGE`; `CFN_ROOT_KEY_UNREACHABLE`; `CFN_ROOT_KEY_REFUSED`; `CFN_SECRET_EXPOSED` when the service would
 *   export the key
 */
export async function openTransitRootKey(url: string, deps: RootKeyDeps): Promise<RootKey> {
  const { mount, name } = parseUrl(url);

  async function ask<T>(method: 'GET' | 'POST', path: string, schema: z.ZodType<T>, body?: object): Promise<T> {
    const answer = await send(method, `${mount}${path}`, deps, body);
    const parsed = schema.safeParse(answer);
    if (!parsed.success)
      throw unreachable(`the answer to ${method} ${path} is not what a transit service says`, parsed.error);
    return parsed.data;
  }
  const readKey = async (): Promise<z.infer<typeof keySchema>['data']> =>
    (await ask('GET', `/keys/${name}`, keySchema)).data;
  const ciphertextOf = async (path: string, body: object): Promise<Uint8Array> =>
    utf8((await ask('POST', `/${path}/${name}`, ciphertextSchema, body)).data.ciphertext);

  const key = await readKey().catch(async (error: unknown) => {
    if (!(error instanceof NotThere)) throw error;
    if (!deps.mayMake) throw unreachable(`the transit service has no key ${name}, but a keyring exists`);
    await send('POST', `${mount}/keys/${name}`, deps, { type: 'aes256-gcm96' });
    return readKey();
  });
  if (key.type !== 'aes256-gcm96')
    throw new CfnError('CFN_USAGE', `the key ${name} is ${key.type}, expected aes256-gcm96`);
  if (key.exportable || key.allow_plaintext_backup)
    throw new CfnError('CFN_SECRET_EXPOSED', `the transit service would export the key ${name}`);

  return {
    kind: 'transit',
    async wrap(secret, context) {
      const plaintext = Buffer.from(concatBytes(digestOf(context), secret));
      try {
        return await ciphertextOf('encrypt', { plaintext: plaintext.toString('base64') });
      } finally {
        plaintext.fill(0);
      }
    },
    async unwrap(wrapped, context) {
      const { data } = await ask('POST', `/decrypt/${name}`, plaintextSchema, { ciphertext: ciphertextText(wrapped) });
      const plaintext = Buffer.from(data.plaintext, 'base64');
      if (!equalBytes(plaintext.subarray(0, CONTEXT_BYTES), digestOf(context))) {
        plaintext.fill(0);
        throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key was wrapped for another use');
      }
      return plaintext.subarray(CONTEXT_BYTES);
    },
    // The secret stays in the service; whether the context is right is seen when it is unwrapped.
    rewrap: (wrapped) => ciphertextOf('rewrap', { ciphertext: ciphertextText(wrapped) }),
    version: async () => (await readKey()).latest_version,
    versionOf: (wrapped) => Number(ciphertextText(wrapped).split(':')[1]?.slice(1)),
    async rotate() {
      await send('POST', `${mount}/keys/${name}/rotate`, deps);
      return (await readKey()).latest_version;
    },
    close: async () => undefined,
  };
}

function parseUrl(text: string): { mount: string; name: string } {
  const url = URL.parse(text);
  const [, mount, name] = /^(\/v1\/.+)\/keys\/([A-Za-z0-9_.-]+)$/.exec(url?.pathname ?? '') ?? [];
  if (url === null || mount === undefined || name === undefined || url.search !== '' || url.username !== '')
    throw new CfnError(
      'CFN_USAGE',
      '--root-key transit: expected the URL of a key, such as https://vault:8200/v1/transit/keys/cfn-root',
    );
  // Keys go to it in the clear: plain HTTP only where no other machine is on the way.
  const loopback = ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback))
    throw new CfnError('CFN_USAGE', '--root-key transit: expected https://, or http:// on this machine');
  return { mount: `${url.origin}${mount}`, name };
}

/** 404: mount or key is not there. */
class NotThere extends CfnError {}

async function send(method: string, url: string, deps: RootKeyDeps, body?: object): Promise<unknown> {
  const token = deps.credential();
  if (token === undefined) throw new CfnError('CFN_ROOT_KEY_REFUSED', 'there is no token for the transit service');
  const headers = { 'x-vault-token': token.toString('latin1'), 'content-type': 'application/json' };
  token.fill(0);
  let status: number;
  let text: string;
  try {
    const response = await deps.fetch(url, {
      method,
      headers,
      ...(body !== undefined && { body: JSON.stringify(body) }),
      redirect: 'error', // it would carry the token elsewhere
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    status = response.status;
    text = await readText(response);
  } catch (cause) {
    throw cause instanceof CfnError ? cause : unreachable('the transit service does not answer', cause);
  }
  const path = new URL(url).pathname;
  if (status === 200 || status === 204) return parseJson(text);
  if (status === 404) throw new NotThere('CFN_ROOT_KEY_UNREACHABLE', `the transit service has no ${path}`);
  if (status === 403) throw new CfnError('CFN_ROOT_KEY_REFUSED', `the transit service refused ${method} ${path}`);
  // Of a ciphertext, 400 says that it does not open. The service's own words are not repeated: they could hold what was sent.
  if (status === 400 && /\/(decrypt|rewrap)\//.test(path))
    throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key does not open under the root key');
  throw unreachable(`the transit service answered ${status}`);
}

async function readText(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > ANSWER_BYTES_MAX) throw unreachable(`the transit service answered over ${ANSWER_BYTES_MAX} bytes`);
    pieces.push(piece);
  }
  return fromUtf8(concatBytes(...pieces), 'CFN_ROOT_KEY_UNREACHABLE');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller refuses what is not there
  }
}

function ciphertextText(wrapped: Uint8Array): string {
  const text = fromUtf8(wrapped, 'CFN_KEYRING_ALTERED');
  if (!/^vault:v\d{1,6}:[A-Za-z0-9+/=]+$/.test(text))
    throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key is not what a transit service makes');
  return text;
}

const digestOf = (context: Uint8Array): Buffer => createHash('sha256').update(context).digest();
const unreachable = (what: string, cause?: unknown): CfnError =>
  new CfnError('CFN_ROOT_KEY_UNREACHABLE', what, { cause });
