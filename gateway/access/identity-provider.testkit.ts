import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT, type GenerateKeyPairResult } from 'jose';

/** `jose` looks at the machine's clock for its cache, so tokens are made for now. */
export const nowSeconds = Math.floor(Date.now() / 1000);

/** An identity provider with real keys on this machine. */
export class Provider {
  readonly keys = new Map<string, GenerateKeyPairResult>();
  fetched = 0;
  answer: ((response: ServerResponse) => void) | undefined;
  #server: Server | undefined;
  url = '';

  async start(): Promise<this> {
    await this.rotate('k1');
    this.#server = createServer((request, response) => void this.#serve(request, response));
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }
  async rotate(kid: string): Promise<void> {
    this.keys.clear();
    this.keys.set(kid, await generateKeyPair('RS256', { extractable: true }));
  }
  async #serve({ url }: IncomingMessage, response: ServerResponse): Promise<void> {
    this.fetched++;
    if (this.answer !== undefined) return this.answer(response);
    if (url === '/.well-known/openid-configuration')
      return void response.end(JSON.stringify({ issuer: this.url, jwks_uri: `${this.url}/keys` }));
    const jwks = [...this.keys].map(async ([kid, { publicKey }]) => ({
      ...(await exportJWK(publicKey)),
      kid,
      alg: 'RS256',
    }));
    response.end(JSON.stringify({ keys: await Promise.all(jwks) }));
  }
  token(claims: Record<string, unknown> = {}, kid = [...this.keys.keys()][0] ?? ''): Promise<string> {
    const { privateKey } = this.keys.get(kid) ?? {};
    if (privateKey === undefined) throw new Error(`no key ${kid}`);
    return new SignJWT({ ...this.claims(), ...claims }).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey);
  }
  claims(): Record<string, unknown> {
    return {
      iss: this.url,
      aud: 'cfn',
      sub: 'ada',
      iat: nowSeconds,
      exp: nowSeconds + 300,
      groups: ['acme-devs'],
      org: 'zoo',
    };
  }
  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}
