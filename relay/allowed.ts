import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { CfnError } from '../proto/index.ts';

/** What goes through: requests that are sealed, and what a caller has to read before it can seal. */
const SEALED_PATH = /^\/f\/[a-z0-9-]+\/[a-z0-9-]+\/$/;
const PUBLIC_PATH =
  /^\/\.well-known\/(?:cfn\/(?:attestation|results|jwks\.json|(?:receipts|evidence)\/[0-9a-f]+)|ohttp-gateway)(?:\?[A-Za-z0-9_=&%.-]*)?$/;
const SEALED_REQUEST = 'message/ohttp-chunked-req';

/** Fields that go on, and no others: none says who the caller is, unless it sends a token for the gateway. */
const TO_GATEWAY = [
  'accept',
  'cfn-authorization',
  'cfn-function-version',
  'cfn-worker',
  'content-length',
  'content-type',
  'incremental',
] as const;
const TO_CALLER = ['cache-control', 'cfn-request-id', 'content-length', 'content-type', 'retry-after'] as const;

export interface Target {
  readonly origin: URL;
  /** Path and query at the gateway, as they came. */
  readonly path: string;
}

/**
 * Where a request goes: `/{authority of a gateway}{path}`. Compared as it is written, with nothing decoded or resolved.
 *
 * @param origins by authority
 * @throws {CfnError} `CFN_NOT_FOUND`; `CFN_PLAINTEXT_REFUSED`
 */
export function targetOf({ method, url = '', headers }: IncomingMessage, origins: ReadonlyMap<string, URL>): Target {
  const [, authority = '', path = ''] = /^\/([^/]+)(\/.*)$/.exec(url) ?? [];
  const origin = origins.get(authority);
  if (origin === undefined) throw new CfnError('CFN_NOT_FOUND', 'this relay does not forward to that gateway');
  if (method === 'GET' && PUBLIC_PATH.test(path)) return { origin, path };
  if (method !== 'POST' || !SEALED_PATH.test(path))
    throw new CfnError('CFN_NOT_FOUND', 'a relay forwards sealed requests, and what is needed to seal them');
  if (headers['content-type']?.trim().toLowerCase() !== SEALED_REQUEST)
    throw new CfnError('CFN_PLAINTEXT_REFUSED', 'a relay forwards nothing that is not sealed');
  return { origin, path };
}

export const requestFields = (headers: IncomingHttpHeaders): Record<string, string> => pick(headers, TO_GATEWAY);
export const responseFields = (headers: IncomingHttpHeaders): Record<string, string> => ({
  ...pick(headers, TO_CALLER),
  ...CORS,
});

function pick(headers: IncomingHttpHeaders, names: readonly string[]): Record<string, string> {
  const picked: Record<string, string> = {};
  for (const name of names) {
    const value = headers[name];
    if (typeof value === 'string') picked[name] = value;
  }
  return picked;
}

/** As the gateway's: pages of any origin, without credentials. */
export const CORS = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'cfn-request-id, retry-after',
} as const;
export const PREFLIGHT = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, POST',
  'access-control-allow-headers': TO_GATEWAY.join(', '),
  'access-control-max-age': '7200',
} as const;
