import {
  Metadata,
  status,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';
import {
  BUNDLE_BYTES_MAX,
  callerNonce,
  CfnError,
  channelNonce,
  toCfnError,
  utf8,
  type ErrorCode,
} from '../../proto/index.ts';
import {
  GRPC_CODE_KEY,
  type AbortReply,
  type AbortRequest,
  type EvidenceReply,
  type EvidenceRequest,
  type InvokeRequest,
  type InvokeResponse,
  type LoadFunctionReply,
  type LoadFunctionRequest,
  type ReceiptAcknowledgement,
  type OutstandingReceipts,
  type MetricsReply,
  type WorkerStatus,
} from '../../proto/grpc.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { FunctionHost } from './function-host.ts';
import type { Invoker } from './invoke.ts';
import type { WorkerKeyring } from './keys.ts';
import { serveReceipts } from './receipt-feed.ts';
import type { ReceiptBook } from './receipts.ts';
import type { WorkerMetrics } from './worker-metrics.ts';
import { listenForSessions, type SessionListener } from './session-listener.ts';
import type { StatusSource } from './status.ts';

const NONCE_BYTES = 32;
/** A bundle, its manifests, and room for the framing. */
const MESSAGE_BYTES_MAX = BUNDLE_BYTES_MAX + 8 * 1024 * 1024;
const OPTIONS = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
};

/** Serves worker.proto, each call in the TLS session that it came by. */
export function serveWorker(
  listen: string,
  deps: {
    readonly keys: WorkerKeyring;
    readonly gatewayCertificatePem: string;
    readonly evidence: EvidenceSource;
    readonly functions: FunctionHost;
    readonly invoker: Invoker;
    readonly receipts: ReceiptBook;
    /** On the clock of {@link receipts}, ms. */
    readonly leaseClockMs: () => number;
    /** Aborted when nobody is told of receipts any more. */
    readonly lastReceipts: AbortSignal;
    readonly metrics: Pick<WorkerMetrics, 'reply'>;
    readonly status: StatusSource;
  },
): Promise<SessionListener> {
  const identity = { ...deps.keys.tls, gatewayCertificatePem: deps.gatewayCertificatePem };
  return listenForSessions(listen, OPTIONS, identity, (channel) => ({
    getEvidence: unary<EvidenceRequest, EvidenceReply>(async ({ nonce, admission }) => {
      if (nonce?.length !== NONCE_BYTES)
        throw new CfnError('CFN_INPUT_INVALID', `nonce must have ${NONCE_BYTES} bytes`);
      const quoted = await (admission ? channelNonce(nonce, channel) : callerNonce(nonce));
      const evidence = await deps.evidence.collect(quoted, admission);
      return { evidence: Buffer.from(utf8(JSON.stringify(evidence))) };
    }),
    loadFunction: unary<LoadFunctionRequest, LoadFunctionReply>(async ({ manifest, bundle, modelManifests }) => {
      const signed = await deps.functions.load(manifest, bundle, modelManifests ?? []);
      return { version: signed.version };
    }),
    invoke: (call: ServerDuplexStream<InvokeRequest, InvokeResponse>) => {
      // `destroy` would send no status.
      deps.invoker.serve(call).catch((error: unknown) => call.emit('error', grpcError(error)));
    },
    abort: unary<AbortRequest, AbortReply>(async ({ requestId }) => ({
      receipt: (await deps.invoker.abort(requestId)) ?? '',
    })),
    receipts: (call: ServerDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>) =>
      void serveReceipts(call, deps.receipts, deps.leaseClockMs, deps.lastReceipts),
    metrics: unary<object, MetricsReply>(async () => deps.metrics.reply()),
    watch: (call: ServerWritableStream<object, WorkerStatus>) => deps.status.stream(call),
  }));
}

function unary<Q, R>(handle: (request: Partial<Q> & Q) => Promise<R>) {
  return (call: ServerUnaryCall<Partial<Q> & Q, R>, callback: sendUnaryData<R>): void => {
    handle(call.request).then(
      (reply) => callback(null, reply),
      (error: unknown) => callback(grpcError(error)),
    );
  };
}

/** gRPC status for an error; the stable code travels in the metadata. */
function grpcError(error: unknown): Error & { code: number; details: string; metadata: Metadata } {
  const known = toCfnError(error);
  const metadata = new Metadata();
  metadata.set(GRPC_CODE_KEY, known.code);
  return Object.assign(new Error(known.message), {
    code: grpcStatus(known.code, known.fault),
    details: known.message.slice(0, 1_000),
    metadata,
  });
}

function grpcStatus(code: ErrorCode, fault: CfnError['fault']): number {
  if (code === 'CFN_DEADLINE') return status.DEADLINE_EXCEEDED;
  if (code === 'CFN_FUNCTION_NOT_FOUND') return status.NOT_FOUND;
  if (code === 'CFN_INTERNAL') return status.INTERNAL;
  return { caller: status.INVALID_ARGUMENT, system: status.UNAVAILABLE, trust: status.FAILED_PRECONDITION }[fault];
}
