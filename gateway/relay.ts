import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { VerifiedReceipt } from '../client/index.ts';
import { CfnError } from '../proto/index.ts';
import type { InvokeHead } from '../proto/grpc.ts';
import { fromGrpcError } from './grpc-error.ts';
import { SEALED_REQUEST_BYTES_MAX } from './limits.ts';
import type { InvokeCall } from './worker-connection.ts';

export interface Relayed {
  /** The worker's receipt: unverified as the relay carries it, verified where the gateway was the client. */
  readonly receipt: string | VerifiedReceipt | undefined;
  /** Why the answer was cut; the caller sees a broken connection and, inside, a missing end. */
  readonly failure: CfnError | undefined;
}

/**
 * Carries a sealed request to a worker and the sealed answer back, as bytes, in step with the slower side. INV: it holds no key
 * and opens nothing; what it takes apart is gRPC and HTTP framing.
 *
 * Rejects with a {@link CfnError} as long as nothing has been sent to the caller; later failures destroy the connection, so
 * that the caller sees truncation.
 */
export function relay(
  call: InvokeCall,
  head: InvokeHead,
  source: IncomingMessage,
  sink: ServerResponse,
  headers: OutgoingHttpHeaders,
): Promise<Relayed> {
  return new Promise((resolve, reject) => {
    let receivedBytes = 0;
    let receipt: string | undefined;
    let settled = false;

    const settle = (failure?: CfnError): void => {
      if (settled) return;
      settled = true;
      source.off('data', onRequestBytes);
      source.resume();
      if (failure !== undefined) call.cancel();
      if (failure !== undefined && !sink.headersSent) return reject(failure);
      if (failure === undefined) sink.end();
      else sink.destroy();
      resolve({ receipt, failure });
    };

    const onRequestBytes = (chunk: Buffer): void => {
      receivedBytes += chunk.length;
      if (receivedBytes > SEALED_REQUEST_BYTES_MAX) {
        return settle(
          new CfnError('CFN_BODY_TOO_LARGE', `a sealed request has at most ${SEALED_REQUEST_BYTES_MAX} bytes`),
        );
      }
      if (!call.write({ chunk })) {
        source.pause();
        call.once('drain', () => source.resume());
      }
    };

    call.on('data', (message: { chunk?: Uint8Array; end?: { receipt: string } }) => {
      if (settled) return;
      if (message.end !== undefined) receipt = message.end.receipt;
      if (message.chunk === undefined || message.chunk.length === 0) return;
      if (!sink.headersSent) sink.writeHead(200, headers);
      if (!sink.write(message.chunk)) {
        call.pause();
        sink.once('drain', () => call.resume());
      }
    });
    // Stays attached for good: a cancelled call reports its end as an error.
    call.on('error', (cause) => settle(fromGrpcError(cause)));
    call.on('end', () =>
      settle(sink.headersSent ? undefined : new CfnError('CFN_WORKER_LOST', 'the worker ended without an answer')),
    );
    const onGone = (): void => {
      if (!settled) settle(new CfnError('CFN_ABORTED', 'the caller went away'));
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
