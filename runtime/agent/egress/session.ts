import { once } from 'node:events';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import {
  BODY_WINDOW_BYTES,
  CfnError,
  decodeRequest,
  EGRESS_BYTES_MAX,
  EGRESS_CALLS_MAX,
  EGRESS_CONCURRENT_MAX,
  EGRESS_CONNECT_MS,
  EGRESS_REDIRECTS_MAX,
  encodeResponseHead,
  HEAD_BYTES_MAX,
  type DecodedRequest,
  type EgressUse,
} from '../../../proto/index.ts';
import { crediting, openWindow, type Window } from '../../ipc/flow.ts';
import type { FetchMessage, FetchReply } from '../../ipc/messages.ts';
import { destinationOf, EgressRefused, pinnedAddress, type Destination, type Resolve } from './destination.ts';
import { receivedFields, sentFields, withoutContent, withoutSecrets } from './fields.ts';

export interface EgressDeps {
  readonly resolve: Resolve;
  readonly isAllowedAddress: (address: string) => boolean;
  /** Trust anchors (PEM) in place of the ones that Node brings. */
  readonly ca?: string | undefined;
}

/** The fetches of one invocation. */
export interface EgressSession {
  /** Takes a message of the sandbox; its payload is owned here from now on. */
  receive(message: FetchMessage, payload: Uint8Array): void;
  /** Ends what is under way; gives what was used. */
  close(): EgressUse[];
}
export type Reply = (message: FetchReply, ...payloads: readonly Uint8Array[]) => Promise<void>;

/** A request body on its way to a server. */
interface Upload {
  push(bytes: Uint8Array): void;
  end(): void;
  pieces(): AsyncGenerator<Uint8Array>;
}
interface Call {
  readonly ended: AbortController;
  readonly window: Window;
  readonly upload: Upload | undefined;
}

/** The only road out of a sandbox: to hosts that the signed manifest names, over TLS, to public addresses. */
export function egressSession(allow: readonly string[], deps: EgressDeps, reply: Reply): EgressSession {
  const calls = new Map<number, Call>();
  const used = new Map<string, { calls: number; bytesSent: number; bytesReceived: number }>();
  const open = new Set<() => void>();
  let [begun, active, bytesInAll] = [0, 0, 0];
  const queue: (() => void)[] = [];

  function count(name: string, request: ClientRequest): () => void {
    const entry = used.get(name) ?? { calls: 0, bytesSent: 0, bytesReceived: 0 };
    used.set(name, entry);
    entry.calls += 1;
    let [sent, received] = [0, 0];
    const read = (): void => {
      const { bytesWritten = 0, bytesRead = 0 } = request.socket ?? {};
      entry.bytesSent += bytesWritten - sent;
      entry.bytesReceived += bytesRead - received;
      [sent, received] = [bytesWritten, bytesRead];
    };
    open.add(read);
    return read;
  }
  function spend(bytes: number): void {
    bytesInAll += bytes;
    if (bytesInAll > EGRESS_BYTES_MAX)
      throw new EgressRefused(`fetch: one invocation moves at most ${EGRESS_BYTES_MAX} bytes`);
  }

  /** One request to one server, redirects not followed. */
  async function hop(
    to: Destination,
    {
      method,
      fields,
      body,
    }: { method: string; fields: DecodedRequest['headers']; body: Upload | Uint8Array | undefined },
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { address, family } = await pinnedAddress(to, deps.resolve, deps.isAllowedAddress);
    signal.throwIfAborted();
    const isName = to.host !== address;
    const options: RequestOptions = {
      host: address,
      family,
      port: to.port,
      ...(isName ? { servername: to.host } : {}),
      method,
      path: to.url.pathname + to.url.search,
      headers: [
        ['host', to.url.host],
        ...fields,
        ...(body instanceof Uint8Array ? [['content-length', String(body.length)]] : []),
        ...(body !== undefined && !(body instanceof Uint8Array) ? [['transfer-encoding', 'chunked']] : []),
      ].flat(),
      setHost: false,
      agent: false, // no connection outlives its call
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
      maxHeaderSize: HEAD_BYTES_MAX,
      signal,
      ...(deps.ca === undefined ? {} : { ca: deps.ca }),
    };
    const request = httpsRequest(options);
    const read = count(to.name, request);
    const connecting = setTimeout(
      () => request.destroy(new EgressRefused(`fetch: ${to.name} did not answer the connection`)),
      EGRESS_CONNECT_MS,
    );
    request.once('socket', (socket) => {
      socket.once('secureConnect', () => clearTimeout(connecting));
      socket.once('close', read);
    });
    request.once('close', () => clearTimeout(connecting));
    const answered = once(request, 'response') as Promise<[IncomingMessage]>;
    answered.catch(() => undefined);
    if (body === undefined) request.end();
    else send(request, body).catch((error: unknown) => request.destroy(error as Error));
    const [response] = await answered;
    return response;
  }

  async function send(request: ClientRequest, body: Upload | Uint8Array): Promise<void> {
    for await (const piece of body instanceof Uint8Array ? [body] : body.pieces()) {
      spend(piece.length);
      await new Promise<void>((resolve, reject) =>
        request.write(piece, (error) => (error ? reject(error) : resolve())),
      );
    }
    request.end();
  }

  async function run(message: Extract<FetchMessage, { op: 'fetch' }>, payload: Uint8Array, call: Call): Promise<void> {
    const { signal } = call.ended;
    const decoded = decodeRequest(payload);
    let { method } = decoded;
    let fields = [...sentFields(decoded.headers)] as DecodedRequest['headers'];
    let body: Upload | Uint8Array | undefined = call.upload ?? (decoded.body.length > 0 ? decoded.body : undefined);
    let to = destinationOf(`${decoded.scheme}://${decoded.authority}${decoded.path}`, allow);
    for (let redirects = 0; ; redirects++) {
      const response = await hop(to, { method, fields, body }, signal);
      const { statusCode: status = 0, headers } = response;
      const location = [301, 302, 303, 307, 308].includes(status) ? headers.location : undefined;
      if (location === undefined || message.redirect === 'manual')
        return await answer(message, response, to, redirects > 0, call);
      response.destroy();
      if (message.redirect === 'error') throw new EgressRefused(`fetch: ${to.name} answered with a redirect`);
      if (redirects === EGRESS_REDIRECTS_MAX)
        throw new EgressRefused(`fetch: more than ${EGRESS_REDIRECTS_MAX} redirects`);
      const next = destinationOf(URL.parse(location, to.url)?.href ?? '', allow);
      if (next.name !== to.name) fields = [...withoutSecrets(fields)] as typeof fields;
      if ((status === 303 && method !== 'HEAD') || (status <= 302 && method === 'POST')) {
        method = 'GET';
        body = undefined;
        fields = [...withoutContent(fields)] as typeof fields;
      } else if (call.upload !== undefined)
        throw new EgressRefused('fetch: a body that was streamed cannot follow a redirect');
      to = next;
    }
  }

  async function answer(
    { call: id }: FetchMessage,
    response: IncomingMessage,
    to: Destination,
    redirected: boolean,
    { window, ended }: Call,
  ): Promise<void> {
    const head = encodeResponseHead(response.statusCode ?? 0, receivedFields(response.rawHeaders));
    await reply({ op: 'fetched', call: id, url: to.url.href, redirected }, head);
    try {
      for await (const piece of response as AsyncIterable<Buffer>) {
        spend(piece.length);
        const full = window.room();
        if (full !== undefined) await full;
        ended.signal.throwIfAborted();
        window.spend(piece.length);
        await reply({ op: 'body', call: id }, piece);
        piece.fill(0);
      }
      await reply({ op: 'body', call: id, end: true });
    } catch {
      response.destroy();
      await reply({ op: 'body-failed', call: id, code: 'CFN_ABORTED' });
    }
  }

  async function begin(message: Extract<FetchMessage, { op: 'fetch' }>, payload: Uint8Array): Promise<void> {
    const { call: id, streamed } = message;
    const credit = crediting(
      BODY_WINDOW_BYTES,
      (bytes) => void reply({ op: 'credit', call: id, bytes }).catch(() => undefined),
    );
    const call: Call = {
      ended: new AbortController(),
      window: openWindow(BODY_WINDOW_BYTES),
      upload: streamed === true ? upload(credit) : undefined,
    };
    calls.set(id, call);
    try {
      if (++begun > EGRESS_CALLS_MAX)
        throw new EgressRefused(`fetch: one invocation makes at most ${EGRESS_CALLS_MAX} calls`);
      if (active >= EGRESS_CONCURRENT_MAX) await new Promise<void>((resolve) => queue.push(resolve));
      active += 1;
      try {
        await run(message, payload, call);
      } finally {
        active -= 1;
        queue.shift()?.();
      }
    } catch (error) {
      await reply({ op: 'fetch-failed', call: id, message: reasonOf(error) });
    } finally {
      payload.fill(0);
      end(id);
    }
  }
  function end(id: number): void {
    const call = calls.get(id);
    calls.delete(id);
    call?.ended.abort();
    call?.window.close();
    call?.upload?.end();
  }

  return {
    receive(message, payload) {
      const call = calls.get(message.call);
      switch (message.op) {
        case 'fetch':
          if (call === undefined) return void begin(message, payload).catch(() => undefined); // the sandbox has ended
          return void payload.fill(0);
        case 'body':
          call?.upload?.push(payload);
          if (call?.upload === undefined) payload.fill(0);
          if (message.end === true) call?.upload?.end();
          return;
        case 'credit':
          return call?.window.add(message.bytes);
        case 'cancel':
          return end(message.call);
        default:
          message satisfies never;
      }
    },
    close() {
      for (const read of open) read();
      for (const id of calls.keys()) end(id);
      return [...used].map(([host, use]) => ({ host, ...use }));
    },
  };
}

/** Pieces that wait for the server, overwritten once they are sent. The sandbox keeps to a window; one that does not is cut off. */
function upload(used: (bytes: number) => void): Upload {
  const waiting: Uint8Array[] = [];
  let [bytes, over] = [0, false];
  let wake: (() => void) | undefined;
  return {
    push(piece) {
      bytes += piece.length;
      if (over || bytes > 2 * BODY_WINDOW_BYTES) return void piece.fill(0);
      waiting.push(piece);
      wake?.();
    },
    end() {
      over = true;
      wake?.();
    },
    async *pieces() {
      try {
        for (;;) {
          const piece = waiting.shift();
          if (piece !== undefined) {
            yield piece;
            bytes -= piece.length;
            used(piece.length);
            piece.fill(0);
          } else if (over) return;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      } finally {
        for (const piece of waiting.splice(0)) piece.fill(0);
      }
    },
  };
}

/** In words for the function: our own, or the name of the failure; a library's message may say more about the network than it should. */
function reasonOf(error: unknown): string {
  if (error instanceof EgressRefused || error instanceof CfnError) return error.message;
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer';
  return `fetch failed: ${code}`;
}
