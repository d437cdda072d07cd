import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  CONTENT_END,
  encodeContentChunk,
  encodeResponseHead,
  encodeTrailers,
  toProblem,
  utf8,
  type CfnError,
  type ErrorCode,
  type Receipt,
} from '../../proto/index.ts';
import type { InvokeRequest, InvokeResponse } from '../../proto/grpc.ts';
import type { OpenedRequest } from './open-request.ts';

/** The answer of one request, sealed and sent piece by piece. */
export interface SealedAnswer {
  /** Seals and sends a piece of binary HTTP, and overwrites it. False: over `bytesMax` in all, and not sent. */
  write(piece: Uint8Array, status: number | undefined, bytesMax: number): boolean;
  /** Resolves when all that was written is sent. */
  flushed(): Promise<void>;
  /** A whole answer that says the error, unless one has begun: then it is left without its end, and the client sees it cut. */
  writeProblem(error: CfnError): Promise<void>;
  /** Digest and length of the sealed bytes so far. */
  digest(): Receipt['response'];
  bytesOverwritten(): number;
  /** Sends the final chunk, which carries the receipt alone, and the receipt for the ledger. */
  finish(receipt: string): Promise<void>;
}

export async function sealedAnswer(
  request: OpenedRequest,
  call: ServerDuplexStream<InvokeRequest, InvokeResponse>,
): Promise<SealedAnswer> {
  const sealer = await request.responseSealer();
  const hash = createHash('sha256');
  let sealedBytes = 0;
  let plainBytes = 0;
  let status = 0;
  let overwritten = 0;
  let cut: ErrorCode | undefined;
  let turn: Promise<void> = Promise.resolve();

  const send = async (bytes: Uint8Array): Promise<void> => {
    if (call.cancelled) return;
    if (!call.write({ chunk: bytes })) await Promise.race([once(call, 'drain'), once(call, 'cancelled')]);
  };
  const sendSealed = async (bytes: Uint8Array): Promise<void> => {
    hash.update(bytes);
    sealedBytes += bytes.length;
    await send(bytes);
  };
  const seal = async (piece: Uint8Array): Promise<void> => {
    await sendSealed(await sealer.seal(piece));
    piece.fill(0);
    overwritten += piece.length;
  };
  await sendSealed(sealer.header);

  return {
    write(piece, pieceStatus, bytesMax) {
      status ||= pieceStatus ?? 0;
      plainBytes += piece.length;
      if (plainBytes > bytesMax) {
        piece.fill(0);
        return false;
      }
      turn = turn.then(() => seal(piece));
      turn.catch(() => undefined); // told by flushed()
      return true;
    },
    flushed: () => turn,
    async writeProblem(error) {
      if (plainBytes > 0) {
        cut = error.code;
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
    async finish(receipt) {
      if (cut === undefined) await send(await sealer.sealFinal(encodeTrailers([['cfn-receipt', receipt]])));
      if (!call.cancelled) call.write({ end: { receipt } });
    },
  };
}
