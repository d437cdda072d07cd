import {
  Metadata,
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
} from '@grpc/grpc-js';
import { BUNDLE_BYTES_MAX, CfnError, toCfnError, utf8, type ErrorCode } from '../../proto/index.ts';
import {
  GRPC_CODE_KEY,
  workerService,
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
} from '../../proto/grpc.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { FunctionHost } from './function-host.ts';
import type { Invoker } from './invoke.ts';
import type { WorkerKeyring } from './keys.ts';
import { serveReceipts } from './receipt-feed.ts';
import type { ReceiptBook } from './receipts.ts';

const NONCE_BYTES = 32;
/** How long a worker that stops waits for its last receipts to be acknowledged, in ms. */
const LAST_RECEIPTS_MS = 800;
/** A bundle, its manifests, and room for the framing. */
const MESSAGE_BYTES_MAX = BUNDLE_BYTES_MAX + 8 * 1024 * 1024;

export interface WorkerServer {
  /** host:port actually bound */
  readonly address: string;
  stop(): Promise<void>;
}

/** Serves worker.proto over mutual TLS: only the holder of the given gateway certificate's key gets in. */
export async function serveWorker(
  listen: string,
  deps: {
    readonly keys: WorkerKeyring;
    readonly gatewayCertificatePem: string;
    readonly evidence: EvidenceSource;
    readonly functions: FunctionHost;
    readonly invoker: Invoker;
    readonly receipts: ReceiptBook;
    readonly leaseClockMs: () => number;
  },
): Promise<WorkerServer> {
  const server = new Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  });
  const stopping = new AbortController();
  server.addService(workerService, {
    getEvidence: unary<EvidenceRequest, EvidenceReply>(async ({ nonce, admission }) => {
      if (nonce?.length !== NONCE_BYTES)
        throw new CfnError('CFN_INPUT_INVALID', `nonce must have ${NONCE_BYTES} bytes`);
      const evidence = await deps.evidence.collect(nonce, admission);
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
      void serveReceipts(call, deps.receipts, deps.leaseClockMs, stopping.signal),
  });
  const { privateKeyPem, certificatePem } = deps.keys.tls;
  const credentials = ServerCredentials.createSsl(
    Buffer.from(deps.gatewayCertificatePem),
    [{ private_key: Buffer.from(privateKeyPem), cert_chain: Buffer.from(certificatePem) }],
    true,
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(listen, credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return {
    address: `${listen.slice(0, listen.lastIndexOf(':'))}:${port}`,
    stop: () =>
      new Promise((resolve) => {
        server.tryShutdown(() => resolve());
        void deps.receipts.settled(LAST_RECEIPTS_MS).then(() => stopping.abort());
        setTimeout(() => server.forceShutdown(), 1_000).unref();
      }),
  };
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
