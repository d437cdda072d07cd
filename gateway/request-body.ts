import type { IncomingMessage } from 'node:http';
import { BODY_WINDOW_BYTES, CfnError } from '../proto/index.ts';

/** A plain request's body: whole where it is short, as it comes where it is not, or `undefined` where there is none. */
export interface RequestBody {
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Length that the caller said it has. */
  readonly bodyBytes?: number;
}

/**
 * @param limits `wallMs`: for a body that is waited for; one that streams is under the same limit at the worker
 * @throws {CfnError} `CFN_BODY_TOO_LARGE`, `CFN_LIMIT_WALL`, or `CFN_ABORTED` when the caller goes away; from the stream, too
 */
export async function requestBody(
  source: IncomingMessage,
  { bytesMax, wallMs }: { readonly bytesMax: number; readonly wallMs: number },
): Promise<RequestBody> {
  const { 'content-length': length, 'transfer-encoding': encoding } = source.headers;
  if (encoding !== undefined) return { body: stream(source) };
  const bodyBytes = Number(length ?? 0);
  if (bodyBytes === 0) return {};
  if (bodyBytes > bytesMax) throw new CfnError('CFN_BODY_TOO_LARGE', `a request body has at most ${bytesMax} bytes`);
  if (bodyBytes > BODY_WINDOW_BYTES) return { body: stream(source), bodyBytes };
  return { body: await whole(source, wallMs), bodyBytes };
}

const aborted = (cause?: unknown): CfnError => new CfnError('CFN_ABORTED', 'the caller went away', { cause });

function whole(source: IncomingMessage, wallMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const late = setTimeout(
      () => reject(new CfnError('CFN_LIMIT_WALL', `the request body did not come within ${wallMs} ms`)),
      wallMs,
    );
    source.once('close', () => clearTimeout(late));
    source.on('data', (chunk: Buffer) => void chunks.push(chunk));
    source.once('end', () => {
      clearTimeout(late);
      resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks));
    });
    source.once('close', () => {
      if (!source.readableEnded) reject(aborted());
    });
  });
}

async function* stream(source: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    // Left as it is when we stop early: destroying it would take the connection, and the answer with it.
    for await (const chunk of source.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) yield chunk;
  } catch (cause) {
    throw aborted(cause);
  }
}
