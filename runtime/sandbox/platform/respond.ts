import { concatBytes } from '../../../proto/bytes.ts';
import { CONTENT_END, encodeContentChunk, encodeResponseHead } from '../../../proto/bhttp.ts';
import { BODY_WINDOW_BYTES } from '../../../proto/limits.ts';
import { openWindow } from '../../ipc/flow.ts';
import { readStream, takeBody } from './body.ts';
import { rawEntries } from './headers.ts';
import { host } from './host.ts';
import { hostError } from './host-error.ts';
import type { Response } from './response.ts';

/** Content bytes in one frame to the process; with its length it stays within 64 KiB. */
const PIECE_BYTES = 65_536 - 8;

const flow = openWindow(BODY_WINDOW_BYTES);
let cancelStream: ((reason: unknown) => void) | undefined;

/** So many bytes of the response have left. */
export const onCredit = (bytes: number): void => flow.add(bytes);

/** Nobody reads on: a stream that is being sent is cancelled. */
export function stopResponse(reason: unknown): void {
  cancelStream?.(reason);
  flow.close();
}

/**
 * Sends a response as binary HTTP: head, content chunks, content terminator. A small one is a single frame; a large one goes as fast as
 * it is taken at the other end.
 */
export async function sendResponse(response: Response, withBody: boolean, bytesMax: number): Promise<void> {
  const content = takeBody(response);
  const head = encodeResponseHead(response.status, rawEntries(response.headers));
  const send = (bytes: Uint8Array<ArrayBuffer>, status = 0): void => host().respond(bytes.buffer, status);
  const tooLarge = (): Error => hostError('CFN_LIMIT_RESPONSE', `the response body is over ${bytesMax} bytes`);
  if (content === undefined || !withBody) return send(concatBytes(head, CONTENT_END), response.status);
  if ('bytes' in content) {
    const { bytes } = content;
    if (bytes.length > bytesMax) throw tooLarge();
    if (head.length + bytes.length <= PIECE_BYTES)
      return send(concatBytes(head, encodeContentChunk(bytes), CONTENT_END), response.status);
    send(head, response.status);
    await sendPieces(bytes, send);
    return send(CONTENT_END.slice());
  }
  let total = 0;
  send(head, response.status);
  const pass = (bytes: Uint8Array): void | Promise<void> => {
    total += bytes.length;
    if (total > bytesMax) throw tooLarge();
    return sendPieces(bytes, send);
  };
  if ('source' in content) {
    for (let piece = await content.source.pull(); piece !== undefined; piece = await content.source.pull())
      await pass(piece);
  } else
    await readStream(content.stream, pass, (reader) => {
      cancelStream = (reason) => void reader.cancel(reason).catch(() => undefined);
    });
  send(CONTENT_END.slice());
}

async function sendPieces(bytes: Uint8Array, send: (bytes: Uint8Array<ArrayBuffer>) => void): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const full = flow.room();
    if (full !== undefined) await full;
    const chunk = encodeContentChunk(bytes.subarray(at, at + PIECE_BYTES));
    flow.spend(chunk.length);
    send(chunk);
  }
}
