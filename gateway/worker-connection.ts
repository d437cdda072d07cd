import { createHash, X509Certificate } from 'node:crypto';
import { connect as tlsConnect } from 'node:tls';
import { credentials, Metadata, type ChannelOptions, type ClientDuplexStream } from '@grpc/grpc-js';
import { CfnError, parseEvidence, type Evidence } from '../proto/index.ts';
import {
  WorkerClientConstructor,
  type InvokeRequest,
  type InvokeResponse,
  type ReceiptAcknowledgement,
  type OutstandingReceipts,
  type WorkerClient,
} from '../proto/grpc.ts';
import type { ClientCertificate } from './client-certificate.ts';
import { fromGrpcError } from './grpc-error.ts';
import {
  ABORT_MS_MAX,
  CONNECT_MS_MAX,
  EVIDENCE_MS_MAX,
  GRPC_MESSAGE_BYTES_MAX,
  GRPC_WINDOW_BYTES,
  LOAD_MS_MAX,
} from './limits.ts';

export type InvokeCall = ClientDuplexStream<InvokeRequest, InvokeResponse>;
export type ReceiptCall = ClientDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>;

/** A channel to one worker, pinned to one TLS key. Being connected is no trust: that comes from admission. */
export interface WorkerConnection {
  readonly address: string;
  /** SHA-256 of the SubjectPublicKeyInfo that the channel is pinned to, hexadecimal. */
  readonly spki: string;
  /** Evidence for a nonce of 32 bytes. @throws {CfnError} `CFN_DEADLINE`, `CFN_WORKER_LOST`, `CFN_EVIDENCE_MALFORMED` */
  evidence(nonce: Uint8Array, admission: boolean): Promise<Evidence>;
  /** Hands over a function version; gives the version that the worker computed. */
  load(manifest: string, bundle: Uint8Array, modelManifests: readonly Uint8Array[]): Promise<string>;
  /** One call. Errors come as events of the stream. */
  invoke(deadlineMs: number): InvokeCall;
  /** Ends an invocation whose caller has gone. Gives its receipt (JWS); empty where there is none. */
  abort(requestId: string): Promise<string>;
  /** The receipts that no gateway has acknowledged, and where they are acknowledged. Stays open; errors come as events. */
  receipts(): ReceiptCall;
  close(): void;
}

/** @throws {CfnError} `CFN_WORKER_UNAVAILABLE` when nobody answers at the address. */
export type Connect = (address: string) => Promise<WorkerConnection>;

const OPTIONS: ChannelOptions = {
  'grpc.max_send_message_length': GRPC_MESSAGE_BYTES_MAX,
  'grpc.max_receive_message_length': GRPC_MESSAGE_BYTES_MAX,
  'grpc-node.flow_control_window': GRPC_WINDOW_BYTES,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // What was sealed once is sent once; and a retry buffer would hold every body.
  'grpc.enable_retries': 0,
  // A worker is named by its key. Channels with equal targets but other pins must never share a connection.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  // A server name for TLS has to be a name, and addresses mostly are none (RFC 6066 §3).
  'grpc.ssl_target_name_override': 'worker.invalid',
  'grpc.max_reconnect_backoff_ms': 5_000,
};

/** Connects in two steps: read the self-signed certificate, then open a channel that takes this one key only. */
export function workerConnector(own: ClientCertificate, now: () => Date): Connect {
  return async (address) => {
    const certificate = await probeCertificate(address, own);
    const spki = spkiDigest(certificate.raw);
    const channel = credentials.createSsl(
      Buffer.from(certificate.toString()),
      Buffer.from(own.privateKeyPem),
      Buffer.from(own.certificatePem),
      {
        // The name in the certificate says nothing here; its key does.
        checkServerIdentity: (_host, presented) =>
          spkiDigest(presented.raw) === spki ? undefined : new Error('the TLS key is not the pinned one'),
      },
    );
    const client = new WorkerClientConstructor(address, channel, OPTIONS) as unknown as WorkerClient;
    const deadline = (ms: number): { deadline: number } => ({ deadline: now().getTime() + ms });

    return {
      address,
      spki,
      async evidence(nonce, admission) {
        const request = { nonce: Buffer.from(nonce), admission };
        const reply = await unary(client.getEvidence.bind(client), request, deadline(EVIDENCE_MS_MAX));
        return parseEvidence(reply.evidence ?? new Uint8Array());
      },
      async load(manifest, bundle, modelManifests) {
        const request = { manifest, bundle: asBuffer(bundle), modelManifests: modelManifests.map(asBuffer) };
        return (await unary(client.loadFunction.bind(client), request, deadline(LOAD_MS_MAX))).version;
      },
      abort: async (requestId) =>
        (await unary(client.abort.bind(client), { requestId }, deadline(ABORT_MS_MAX))).receipt,
      invoke: (deadlineMs) => client.invoke(new Metadata(), deadline(deadlineMs)),
      receipts: () => client.receipts(new Metadata()),
      close: () => client.close(),
    };
  };
}

type Unary<Q, R> = (
  request: Q,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: Error | null, reply: R) => void,
) => void;

function unary<Q, R>(method: Unary<Q, R>, request: Q, options: { deadline: number }): Promise<R> {
  return new Promise((resolve, reject) => {
    method(request, new Metadata(), options, (error, reply) =>
      error === null ? resolve(reply) : reject(fromGrpcError(error)),
    );
  });
}

function probeCertificate(address: string, own: ClientCertificate): Promise<X509Certificate> {
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    const fail = (reason: string, cause?: Error): void => {
      socket.destroy();
      reject(new CfnError('CFN_WORKER_UNAVAILABLE', `no worker answers at ${address}: ${reason}`, { cause }));
    };
    const socket = tlsConnect({
      host,
      port,
      // Only the certificate is read here and nothing is sent; the key in it is judged by the evidence that binds it.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      key: own.privateKeyPem,
      cert: own.certificatePem,
    });
    socket.setTimeout(CONNECT_MS_MAX, () => fail(`silent for ${CONNECT_MS_MAX} ms`));
    socket.once('error', (error) => fail((error as NodeJS.ErrnoException).code ?? 'TLS failed', error));
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      if (certificate === undefined) return fail('no certificate');
      socket.removeAllListeners('error').on('error', () => {});
      socket.destroy();
      resolve(certificate);
    });
  });
}

/** host:port, with a name, an IPv4 address, or an IPv6 address in brackets. @throws {CfnError} `CFN_INPUT_INVALID` */
export function parseAddress(address: string): { host: string; port: number } {
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})$/.exec(address);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535)
    throw new CfnError('CFN_INPUT_INVALID', 'expected an address host:port');
  return { host: match[1].replace(/^\[|\]$/g, ''), port };
}

function spkiDigest(certificateDer: Uint8Array): string {
  const { publicKey } = new X509Certificate(certificateDer);
  return createHash('sha256')
    .update(publicKey.export({ format: 'der', type: 'spki' }))
    .digest('hex');
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
