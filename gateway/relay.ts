import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { VerifiedReceipt } from '../client/index.ts';
import { CfnError } from '../proto/index.ts';
import type { InvokeHead, InvokeResponse, InvokeTimings } from '../proto/grpc.ts';
import { abandon } from './abandon.ts';
import { fromGrpcError } from './grpc-error.ts';
import type { WorkerConnection } from './worker-connection.ts';
import { carriedBody } from './young-buffers.ts';

export interface Relayed {
  /** The worker's receipt: unverified as the relay carries it, verified where the gateway was the client. */
  readonly receipt: string | VerifiedReceipt | undefined;
  /** Why there is no whole answer. Where one had begun, the caller sees a broken connection and, inside, a missing end. */
  readonly failure: CfnError | undefined;
  /** What the worker said of its steps, unverified; where it was asked. */
  readonly timings?: InvokeTimings | undefined;
}

export interface RelayedCall {
  readonly head: InvokeHead;
  /** Of the answer that comes. */
  readonly headers: OutgoingHttpHeaders;
  readonly sealedBytesMax: number;
}

/**
 * Carries a sealed request to a worker and the sealed answer back, as bytes, in step with the slower side. INV: it holds no key
 * and opens nothing; what it takes apart is gRPC and HTTP framing.
 *
 * A failure before anything was sent to the caller is left to be told; later ones destroy the connection, so that the caller sees
 * truncation.
 */
export function relay(
  connection: Pick<WorkerConnection, 'invoke' | 'abort'>,
  { head, headers, sealedBytesMax }: RelayedCall,
  source: IncomingMessage,
  sink: ServerResponse,
): Promise<Relayed> {
  const call = connection.invoke(head.deadlineMs);
  return new Promise((resolve) => {
    let receivedBytes = 0;
    let receipt: string | undefined;
    let timings: InvokeTimings | undefined;
    let settled = false;

    const settle = (failure?: CfnError): boolean => {
      if (settled) return false;
      settled = true;
      source.off('data', onRequestBytes);
      source.resume();
      if (failure === undefined) sink.end();
      else if (sink.headersSent) sink.destroy();
      return true;
    };
    /** The worker has ended the call. */
    const over = (failure?: CfnError): void => {
      if (settle(failure)) resolve({ receipt, failure, timings });
    };
    /** We end it. */
    const giveUp = (failure: CfnError): void => {
      if (!settle(failure)) return;
      void abandon(connection, head.requestId, call).then((late) => resolve({ receipt: receipt ?? late, failure }));
    };

    const onRequestBytes = (chunk: Buffer): void => {
      receivedBytes += chunk.length;
      carriedBody(chunk.length);
      if (receivedBytes > sealedBytesMax)
        return giveUp(new CfnError('CFN_BODY_TOO_LARGE', `a sealed request has at most ${sealedBytesMax} bytes`));
      if (!call.write({ chunk })) {
        source.pause();
        call.once('drain', () => source.resume());
      }
    };

    call.on('data', (message: InvokeResponse) => {
      if (message.end !== undefined) ({ receipt, timings } = message.end);
      if (settled || message.chunk === undefined || message.chunk.length === 0) return;
      carriedBody(message.chunk.length);
      if (!sink.headersSent) sink.writeHead(200, headers);
      if (!sink.write(message.chunk)) {
        call.pause();
        sink.once('drain', () => call.resume());
      }
    });
    // Stays attached for good: a cancelled call reports its end as an error.
    call.on('error', (cause) => over(fromGrpcError(cause)));
    call.on('end', () =>
      over(sink.headersSent ? undefined : new CfnError('CFN_WORKER_LOST', 'the worker ended without an answer')),
    );
    const onGone = (): void => {
      if (!settled) giveUp(new CfnError('CFN_ABORTED', 'the caller went away'));
    };
    sink.once('close', onGone);
    source.once('error', onGone);
    source.once('end', () => {
      if (!settled) call.end();
    });

    call.write({ head });
    source.on('data', onRequestBytes);
  });
}
