import { createSecretKey, randomBytes, randomUUID, type KeyObject } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { unwrapUnder, wrapUnder } from './aead.ts';

/** What the service answers instead, for a while: a status, text that is no JSON, or text without end. */
type Disorder = number | 'nonsense' | 'huge';

export interface Transit {
  readonly token: string;
  url(key: string): string;
  makeKey(name: string, settings?: Partial<KeySettings>): Promise<void>;
  answerWith(disorder: Disorder | undefined): void;
  /** The keys stay; `start` comes back on the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface KeySettings {
  readonly type: string;
  readonly exportable: boolean;
  readonly allow_plaintext_backup: boolean;
}
type Key = KeySettings & { readonly versions: KeyObject[] };
interface Call {
  readonly plaintext?: string;
  readonly ciphertext?: string;
}

/**
 * A transit service on this machine, by the documented HTTP API of Vault's transit secrets engine (v1.15): create, read and rotate
 * keys, encrypt, decrypt, rewrap; its statuses and its `{"errors": […]}`. The keys are its own, and its ciphertexts are AES-256-GCM.
 */
export async function startTransit(): Promise<Transit> {
  const keys = new Map<string, Key>();
  const token = `hvs.${randomUUID()}`;
  let disorder: Disorder | undefined;
  let server: Server | undefined;
  let port = 0;
  const fresh = (): KeyObject => createSecretKey(randomBytes(32));
  const make = (name: string, settings: Partial<KeySettings> = {}): void =>
    void keys.set(name, {
      type: 'aes256-gcm96',
      exportable: false,
      allow_plaintext_backup: false,
      ...settings,
      versions: [fresh()],
    });

  const none = new Uint8Array();
  const seal = ({ versions }: Key, plaintext: Uint8Array): string => {
    const key = versions.at(-1) ?? fresh();
    return `vault:v${versions.length}:${Buffer.from(wrapUnder(key, plaintext, none, randomBytes)).toString('base64')}`;
  };
  const open = ({ versions }: Key, ciphertext: string): Buffer => {
    const [, version = '', body = ''] = /^vault:v(\d+):(.*)$/.exec(ciphertext) ?? [];
    const key = versions[Number(version) - 1];
    if (key === undefined || Buffer.from(body, 'base64').toString('base64') !== body)
      throw new Refused(400, 'invalid ciphertext');
    try {
      return unwrapUnder(key, Buffer.from(body, 'base64'), none);
    } catch {
      throw new Refused(400, 'cipher: message authentication failed');
    }
  };

  function answer(method: string, path: string, body: Call & Partial<KeySettings>): object | undefined {
    const [, action = '', name = '', more] =
      /^\/v1\/transit\/(keys|encrypt|decrypt|rewrap)\/([\w.-]+)(\/rotate)?$/.exec(path) ?? [];
    const key = keys.get(name);
    if (action === 'keys' && method === 'POST' && more === undefined) {
      if (key === undefined) make(name, body);
      return undefined;
    }
    if (key === undefined)
      throw action === 'keys' && method === 'GET' ? new Refused(404) : new Refused(400, 'encryption key not found');
    if (action === 'keys' && method === 'GET') {
      const { versions, ...settings } = key;
      return { name, ...settings, latest_version: versions.length, min_decryption_version: 1 };
    }
    if (action === 'keys') return void key.versions.push(fresh());
    if (action === 'encrypt')
      return { ciphertext: seal(key, Buffer.from(body.plaintext ?? '', 'base64')), key_version: key.versions.length };
    const plaintext = open(key, body.ciphertext ?? '');
    if (action === 'rewrap') return { ciphertext: seal(key, plaintext), key_version: key.versions.length };
    return { plaintext: plaintext.toString('base64') };
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    try {
      if (disorder === 'nonsense') return void response.end('<html>');
      if (disorder === 'huge') return void response.end('x'.repeat(1024 * 1024));
      if (disorder === 307) return void response.writeHead(307, { location: '/v1/elsewhere' }).end();
      if (disorder !== undefined) throw new Refused(disorder, `told to answer ${disorder} to ${text}`);
      if (request.headers['x-vault-token'] !== token) throw new Refused(403, 'permission denied');
      const data = answer(request.method ?? '', request.url ?? '', JSON.parse(text === '' ? '{}' : text) as Call);
      if (data === undefined) return void response.writeHead(204).end();
      response.end(
        JSON.stringify({ request_id: randomUUID(), lease_id: '', renewable: false, lease_duration: 0, data }),
      );
    } catch (error) {
      const { status = 500, errors = [] } = error instanceof Refused ? error : {};
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ errors }));
    }
  }

  async function start(): Promise<void> {
    const next = createServer((request, response) => void handle(request, response));
    await new Promise<void>((resolve) => next.listen(port, '127.0.0.1', resolve));
    port = (next.address() as AddressInfo).port;
    server = next;
  }
  await start();
  return {
    token,
    url: (key) => `http://127.0.0.1:${port}/v1/transit/keys/${key}`,
    makeKey: async (name, settings) => make(name, settings),
    answerWith(next) {
      disorder = next;
    },
    start,
    stop: () =>
      new Promise((resolve) => {
        if (server === undefined) return resolve();
        server.close(() => resolve());
        server.closeAllConnections();
        server = undefined;
      }),
  };
}

class Refused extends Error {
  readonly status: number;
  readonly errors: readonly string[];
  constructor(status: number, ...errors: string[]) {
    super(errors.join());
    this.status = status;
    this.errors = errors;
  }
}
