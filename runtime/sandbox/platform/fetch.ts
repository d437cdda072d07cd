import { createResponseDecoder } from '../../../proto/bhttp-response.ts';
import { encodeRequest, encodeRequestHead } from '../../../proto/bhttp.ts';
import { BODY_WINDOW_BYTES } from '../../../proto/limits.ts';
import { openWindow, type Window } from '../../ipc/flow.ts';
import { readStream, takeBody, type Content } from './body.ts';
import { rawEntries } from './headers.ts';
import { callHost, host, takePending } from './host.ts';
import { incomingBody } from './incoming-body.ts';
import { Request, type RequestInit } from './request.ts';
import { fetchedResponse, type Response } from './response.ts';
import { URL } from './url.ts';

interface Fetched {
  readonly head: ArrayBuffer;
  readonly url: string;
  readonly redirected: boolean;
}
/** Bodies on their way out, by call. */
const uploads = new Map<number, Window>();

/** So many bytes of an upload have left. */
export const onUploadCredit = (call: number, bytes: number): void => uploads.get(call)?.add(bytes);

/** Goes through the process around us to hosts that the manifest names: `[egress] allow`. Everything else is refused there. */
export async function fetch(input: unknown, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  request.signal.throwIfAborted();
  const { protocol, host: authority, pathname, search } = new URL(request.url);
  const scheme = protocol.slice(0, -1);
  const headers = rawEntries(request.headers);
  const head = { method: request.method, scheme, authority, path: pathname + search, headers };
  if (pathname === '' || authority === '') throw new TypeError(`fetch: ${protocol} is not allowed, only https:`);
  const content = takeBody(request);
  const streamed = content !== undefined && !('bytes' in content);
  const message = streamed
    ? encodeRequestHead(head)
    : encodeRequest({ ...head, body: content?.bytes ?? new Uint8Array(0) });

  let call = 0;
  const answered = callHost<Fetched>((id) => {
    call = id;
    host().fetch(id, request.redirect, streamed, message.buffer);
  });
  const abort = (): void => {
    takePending(call)?.reject(request.signal.reason);
    host().drop(call);
  };
  request.signal.addEventListener('abort', abort);
  if (streamed) upload(call, content).catch(() => host().drop(call));
  const { head: bytes, url, redirected } = await answered;
  const [event] = createResponseDecoder().push(new Uint8Array(bytes));
  if (event?.type !== 'head') throw new TypeError('fetch: the answer cannot be read');
  return fetchedResponse(incomingBody(call), { status: event.status, headers: event.headers }, url, redirected);
}

async function upload(call: number, content: Exclude<Content, { bytes: Uint8Array }>): Promise<void> {
  const window = openWindow(BODY_WINDOW_BYTES);
  uploads.set(call, window);
  const send = async (bytes: Uint8Array): Promise<void> => {
    for (let at = 0; at < bytes.length; at += 65_536) {
      const full = window.room();
      if (full !== undefined) await full;
      const piece = bytes.slice(at, at + 65_536);
      window.spend(piece.length);
      host().sendBody(call, piece.buffer as ArrayBuffer, false);
    }
  };
  try {
    if ('source' in content)
      for (let piece = await content.source.pull(); piece !== undefined; piece = await content.source.pull())
        await send(piece);
    else await readStream(content.stream, send);
    host().sendBody(call, new ArrayBuffer(0), true);
  } finally {
    uploads.delete(call);
  }
}
