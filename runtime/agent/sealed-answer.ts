import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  concatBytes,
  CONTENT_END,
  encodeContentChunk,
  encodeResponseHead,
  encodeTrailers,
  toProblem,
  utf8,
  type CfnError,
  type Receipt,
} from '../../proto/index.ts';
import type { InvokeRequest, InvokeResponse, InvokeTimings } from '../../proto/grpc.ts';
import type { OpenedRequest } from './open-request.ts';

/** The answer of one request, sealed and sent piece by piece. */
export interface SealedAnswer {
  /** Seals and sends a piece of binary HTTP, and overwrites it; resolves when it has left. Calls are sent in the order they are made. */
  write(piece: Uint8Array, status: number | undefined): Promise<void>;
  /** Resolves when all that was written has left. */
  flushed(): Promise<void>;
  /** Bytes of binary HTTP written so far; 0: nothing was sent. */
  plainBytes(): number;
  /** A whole answer that says the error, unless one has begun: then it is left without its end, and the client sees it cut. */
  writeProblem(error: CfnError): Promise<void>;
  /** Leaves the answer without its end. */
  cut(): void;
  /** Digest and length of the sealed bytes so far. */
  digest(): Receipt['response'];
  bytesOverwritten(): number;
  /** Sends the receipt for the ledger, and the final chunk, which carries the receipt alone. */
  finish(receipt: string, timings?: InvokeTimings): Promise<void>;
}

/** @param gone from then on nothing is sent, nor waited for */
export async function sealedAnswer(
  request: OpenedRequest,
  call: ServerDuplexStream<InvokeRequest, InvokeResponse>,
  gone: AbortSignal,
): Promise<SealedAnswer> {
  const sealer = await request.responseSealer();
  const hash = createHash('sha256');
  let sealedBytes = 0;
  let plainBytes = 0;
  let status = 0;
  let overwritten = 0;
  let cut = false;
  let turn: Promise<void> = Promise.resolve();
  let header: Uint8Array | undefined = sealer.header;

  const send = async (bytes: Uint8Array): Promise<void> => {
    if (gone.aborted) return;
    if (!call.write({ chunk: bytes })) await once(call, 'drain', { signal: gone }).catch(() => undefined);
  };
  /** The first sealed bytes travel with the header. */
  const withHeader = (bytes: Uint8Array): Uint8Array => {
    if (header === undefined) return bytes;
    const both = concatBytes(header, bytes);
    header = undefined;
    return both;
  };
  const seal = async (piece: Uint8Array): Promise<void> => {
    const bytes = gone.aborted ? new Uint8Array(0) : withHeader(await sealer.seal(piece));
    piece.fill(0);
    overwritten += piece.length;
    hash.update(bytes);
    sealedBytes += bytes.length;
    await send(bytes);
  };

  return {
    write(piece, pieceStatus) {
      status ||= pieceStatus ?? 0;
      plainBytes += piece.length;
      return (turn = turn.then(() => seal(piece)));
    },
    flushed: () => turn,
    plainBytes: () => plainBytes,
    cut: () => (cut = true),
    async writeProblem(error) {
      await turn;
      if (plainBytes > 0) {
        cut = true;
        return;
      }
      status = error.status;
      plainBytes = 1;
      const body = utf8(JSON.stringify(toProblem(error)));
      const head = encodeResponseHead(status, [['content-type', 'application/problem+json']]);
      await seal(Buffer.concat([head, encodeContentChunk(body), CONTENT_END]));
    },
    digest: () => ({ digest: hash.copy().digest('hex'), bytes: sealedBytes, status: status === 0 ? 500 : status }),
    bytesOverwritten: () => overwritten,
    async finish(receipt, timings) {
      // To the ledger first: whoever has the whole answer was counted, even where this process ends in between.
      if (!gone.aborted) call.write({ end: { receipt, ...(timings && { timings }) } });
      if (!cut) await send(await sealer.sealFinal(encodeTrailers([['cfn-receipt', receipt]])));
    },
  };
}
