import { concatBytes } from '../../../proto/bytes.ts';
import { CONTENT_END, encodeContentChunk, encodeResponseHead } from '../../../proto/bhttp.ts';
import { RESPONSE_BYTES_MAX } from '../../../proto/limits.ts';
import { readStream, takeBody } from './body.ts';
import { rawEntries } from './headers.ts';
import { host } from './host.ts';
import { hostError } from './host-error.ts';
import type { Response } from './response.ts';

/** Content bytes in one frame to the process; with its length it stays within 64 KiB. */
const PIECE_BYTES = 65_536 - 8;

/** Sends a response as binary HTTP: head, content chunks, content terminator. A small one is a single frame. */
export async function sendResponse(response: Response, withBody: boolean): Promise<void> {
  const content = takeBody(response);
  const head = encodeResponseHead(response.status, rawEntries(response.headers));
  const send = (bytes: Uint8Array<ArrayBuffer>, status = 0): void => host().respond(bytes.buffer, status);
  const tooLarge = (): Error =>
    hostError('CFN_LIMIT_RESPONSE', `the response body is over ${RESPONSE_BYTES_MAX} bytes`);
  if (content === undefined || !withBody) return send(concatBytes(head, CONTENT_END), response.status);
  if ('bytes' in content) {
    const { bytes } = content;
    if (bytes.length > RESPONSE_BYTES_MAX) throw tooLarge();
    if (head.length + bytes.length <= PIECE_BYTES)
      return send(concatBytes(head, encodeContentChunk(bytes), CONTENT_END), response.status);
    send(head, response.status);
    sendPieces(bytes, send);
    return send(CONTENT_END.slice());
  }
  let total = 0;
  send(head, response.status);
  await readStream(content.stream, (bytes) => {
    total += bytes.length;
    if (total > RESPONSE_BYTES_MAX) throw tooLarge();
    sendPieces(bytes, send);
  });
  send(CONTENT_END.slice());
}

function sendPieces(bytes: Uint8Array, send: (bytes: Uint8Array<ArrayBuffer>) => void): void {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) send(encodeContentChunk(bytes.subarray(at, at + PIECE_BYTES)));
}
