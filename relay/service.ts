import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CfnError } from '../proto/index.ts';
import { DRAIN_MS_MAX, HEAD_BYTES_MAX, HEAD_MS_MAX, SILENT_MS_MAX } from './limits.ts';
import { relay, type Log } from './relay.ts';

export interface RelayOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Gateways that it forwards to: origins, `https://gateway.example`. */
  readonly to: readonly string[];
  readonly log: Log;
}

export interface RunningRelay {
  /** What clients take as `relay`. */
  readonly url: string;
  stop(): Promise<void>;
}

/** @throws {CfnError} `CFN_USAGE` for what is no origin */
export async function startRelay({ host, port, to, log }: RelayOptions): Promise<RunningRelay> {
  const relaying = relay({ origins: to.map(parseOrigin), log });
  const limits = { maxHeaderSize: HEAD_BYTES_MAX, headersTimeout: HEAD_MS_MAX, requestTimeout: 0 };
  const server = createServer(limits, (request, response) => relaying.handle(request, response));
  server.timeout = SILENT_MS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound.port}`,
    stop: () =>
      new Promise((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), DRAIN_MS_MAX);
        server.close(() => {
          clearTimeout(timer);
          relaying.close();
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

function parseOrigin(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`)
    throw new CfnError('CFN_USAGE', '--to: expected the origin of a gateway, as https://gateway.example');
  return url;
}
