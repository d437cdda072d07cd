import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { pipeline } from 'node:stream';
import { CfnError, toCfnError, toProblem } from '../proto/index.ts';
import { CORS, PREFLIGHT, requestFields, responseFields, targetOf, type Target } from './allowed.ts';
import { RELAYED_MAX, SILENT_MS_MAX } from './limits.ts';

/** Names of events and codes only: a relay that kept a record of its callers would be none. */
export type Log = (event: string, fields: Readonly<Record<string, string>>) => void;

export interface Relay {
  handle(request: IncomingMessage, response: ServerResponse): void;
  close(): void;
}

/**
 * An OHTTP relay (RFC 9458 §2): the gateway sees its address in place of the caller's, and it sees sealed bytes. What comes goes on as
 * it comes, both ways, over connections that all callers share; nothing is sent a second time.
 */
export function relay({ origins, log }: { readonly origins: readonly URL[]; readonly log: Log }): Relay {
  const byAuthority = new Map(origins.map((origin) => [origin.host, origin]));
  const agents = { 'http:': new HttpAgent({ keepAlive: true }), 'https:': new HttpsAgent({ keepAlive: true }) };
  let under = 0;

  function handle(request: IncomingMessage, response: ServerResponse): void {
    try {
      if (request.method === 'OPTIONS') return void response.writeHead(204, PREFLIGHT).end();
      const target = targetOf(request, byAuthority);
      if (under >= RELAYED_MAX) throw new CfnError('CFN_BUSY', `the relay has ${under} requests under way`);
      under++;
      response.once('close', () => under--);
      forward(target, request, response);
    } catch (cause) {
      refuse(response, toCfnError(cause));
      request.resume();
    }
  }

  function forward({ origin, path }: Target, request: IncomingMessage, response: ServerResponse): void {
    const secure = origin.protocol === 'https:';
    const onward = (secure ? httpsRequest : httpRequest)(new URL(origin), {
      method: request.method,
      path,
      headers: requestFields(request.headers),
      agent: agents[secure ? 'https:' : 'http:'],
      timeout: SILENT_MS_MAX,
    });
    const fail = (): void => {
      if (response.headersSent) return void response.destroy(); // the caller sees a sealed answer without its end
      log('gateway.unreachable', { gateway: origin.host });
      refuse(response, new CfnError('CFN_GATEWAY_UNREACHABLE', 'the relay gets no answer from the gateway'));
    };
    onward.once('timeout', () => onward.destroy());
    onward.once('error', fail);
    onward.once('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, responseFields(answer.headers));
      response.flushHeaders();
      pipeline(answer, response, () => {
        // A gateway may answer before it has the whole request; the rest of that is let go.
        if (!request.readableEnded) onward.destroy();
      });
    });
    response.once('close', () => {
      if (!response.writableFinished) onward.destroy();
    });
    request.on('error', () => onward.destroy());
    request.pipe(onward);
  }

  return {
    handle,
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

function refuse(response: ServerResponse, error: CfnError): void {
  const headers = { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...CORS };
  response.writeHead(error.status, headers).end(JSON.stringify(toProblem(error)));
}
