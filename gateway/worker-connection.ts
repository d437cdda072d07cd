import type { TLSSocket } from 'node:tls';
import { connectivityState, Metadata, type ChannelOptions, type Client, type ClientDuplexStream } from '@grpc/grpc-js';
import { callerNonce, CfnError, channelNonce, parseEvidence, STATUS_MS, toHex, type Evidence } from '../proto/index.ts';
import {
  WorkerClientConstructor,
  type InvokeRequest,
  type InvokeResponse,
  type MetricsReply,
  type OutstandingReceipts,
  type ReceiptAcknowledgement,
  type WorkerClient,
  type WorkerStatus,
} from '../proto/grpc.ts';
import { tlsSession } from '../proto/node.ts';
import type { ClientCertificate } from './client-certificate.ts';
import { fromGrpcError } from './grpc-error.ts';
import {
  ABORT_MS_MAX,
  CONNECT_MS_MAX,
  EVIDENCE_MS_MAX,
  GRPC_MESSAGE_BYTES_MAX,
  GRPC_WINDOW_BYTES,
  LOAD_MS_MAX,
  WORKER_METRICS_MS,
} from './limits.ts';
import { OneSession } from './tls-credentials.ts';

export type InvokeCall = ClientDuplexStream<InvokeRequest, InvokeResponse>;
export type ReceiptCall = ClientDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>;

/** Evidence, and the nonce that it must answer. */
export interface Challenged {
  readonly evidence: Evidence;
  readonly nonce: Uint8Array;
}

/**
 * A channel to one worker, over one TLS session: it never connects anew, since nobody has attested to another session. Being connected
 * is no trust: that comes from admission.
 */
export interface WorkerConnection {
  readonly address: string;
  /** SHA-256 of the SubjectPublicKeyInfo of the worker's TLS key, hexadecimal. */
  readonly spki: string;
  /** Resolves when the TLS session is over, and the connection with it. */
  readonly ended: Promise<void>;
  /**
   * Evidence for a nonce of 32 bytes; for admission it must answer this TLS session, too.
   *
   * @throws {CfnError} `CFN_DEADLINE`, `CFN_WORKER_LOST`, `CFN_EVIDENCE_MALFORMED`
   */
  evidence(nonce: Uint8Array, admission: boolean): Promise<Challenged>;
  /** Hands over a function version; gives the version that the worker computed. */
  load(manifest: string, bundle: Uint8Array, modelManifests: readonly Uint8Array[]): Promise<string>;
  /** One call. Errors come as events of the stream. */
  invoke(deadlineMs: number): InvokeCall;
  /** Ends an invocation whose caller has gone. Gives its receipt (JWS); empty where there is none. */
  abort(requestId: string): Promise<string>;
  /**
   * The receipts that no gateway has acknowledged, and where they are acknowledged. Stays open; errors come as events.
   *
   * @throws {CfnError} `CFN_WORKER_LOST` when the session is over
   */
  receipts(): ReceiptCall;
  /** What the worker counts, unverified. */
  metrics(): Promise<MetricsReply>;
  /** What the worker says of itself, as it changes, until `stop` is called, or `onEnd`. */
  watch(onStatus: (status: WorkerStatus) => void, onEnd: () => void): { stop(): void };
  close(): void;
}

/** @throws {CfnError} `CFN_WORKER_UNAVAILABLE` when nobody answers at the address. */
export type Connect = (address: string) => Promise<WorkerConnection>;

/** No status is read sooner after another, in ms: half the time in which a worker looks whether it has one to tell. */
const STATUS_GAP_MS = STATUS_MS.look / 2;

/**
 * What the worker sends first (RFC 9218): evidence and status come before answers, which take turns. Else HTTP/2 would send answers one
 * after the other, and a small one would wait until all large ones before it are through.
 */
const [CONTROL, ANSWERS] = ['u=1', 'u=3, i'];
function priority(value: string): Metadata {
  const metadata = new Metadata();
  metadata.set('priority', value);
  return metadata;
}

const OPTIONS: ChannelOptions = {
  'grpc.max_send_message_length': GRPC_MESSAGE_BYTES_MAX,
  'grpc.max_receive_message_length': GRPC_MESSAGE_BYTES_MAX,
  'grpc-node.flow_control_window': GRPC_WINDOW_BYTES,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // What was sealed once is sent once; and a retry buffer would hold every body.
  'grpc.enable_retries': 0,
  // Channels with equal targets must never share a session.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
};

/** Connects, and opens a channel that is this one TLS session: when it ends, so does the channel. */
export function workerConnector(own: ClientCertificate, now: () => Date): Connect {
  return async (address) => {
    parseAddress(address);
    const credentials = new OneSession(own);
    const client = new WorkerClientConstructor(address, credentials, OPTIONS);
    const failed = (reason: string, cause?: unknown): CfnError => {
      client.close();
      credentials.socket?.destroy();
      return new CfnError('CFN_WORKER_UNAVAILABLE', `no worker answers at ${address}: ${reason}`, { cause });
    };
    await ready(client, now().getTime() + CONNECT_MS_MAX).catch((reason: string) => {
      const { failure } = credentials;
      throw failed((failure as NodeJS.ErrnoException | undefined)?.code ?? reason, failure);
    });
    const { socket } = credentials;
    if (socket === undefined) throw failed('gRPC has a channel without the session');
    try {
      return onSession(client as unknown as WorkerClient, address, socket, now);
    } catch (cause) {
      client.close();
      socket.destroy();
      throw cause;
    }
  };
}

/** Rejects with a reason. */
function ready(client: Client, deadline: number): Promise<void> {
  const channel = client.getChannel();
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return resolve();
      // oxlint-disable-next-line prefer-promise-reject-errors -- made an error by the one caller
      if (state === connectivityState.TRANSIENT_FAILURE) return reject('no TLS session');
      // oxlint-disable-next-line prefer-promise-reject-errors
      channel.watchConnectivityState(state, deadline, (late) => (late === undefined ? look() : reject('silent')));
    };
    look();
  });
}

function onSession(client: WorkerClient, address: string, socket: TLSSocket, now: () => Date): WorkerConnection {
  const { exporter, ownKey, peerKey } = tlsSession(socket);
  const channel = { exporter, workerKey: peerKey, gatewayKey: ownKey };
  let lost = false;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      lost = true;
      client.close();
      resolve();
    };
    if (socket.destroyed) end();
    else socket.once('close', end);
  });
  // A channel without its session is closed, and throws.
  const worker = (): WorkerClient => {
    if (lost) throw new CfnError('CFN_WORKER_LOST', 'the worker went away');
    return client;
  };
  const deadline = (ms: number): { deadline: number } => ({ deadline: now().getTime() + ms });

  return {
    address,
    spki: toHex(peerKey),
    ended,
    async evidence(nonce, admission) {
      const client = worker();
      const request = { nonce: Buffer.from(nonce), admission };
      const reply = await unary(client.getEvidence.bind(client), request, deadline(EVIDENCE_MS_MAX));
      const quoted = admission ? channelNonce(nonce, channel) : callerNonce(nonce);
      return { evidence: parseEvidence(reply.evidence ?? new Uint8Array()), nonce: await quoted };
    },
    async load(manifest, bundle, modelManifests) {
      const client = worker();
      const request = { manifest, bundle: asBuffer(bundle), modelManifests: modelManifests.map(asBuffer) };
      return (await unary(client.loadFunction.bind(client), request, deadline(LOAD_MS_MAX))).version;
    },
    async abort(requestId) {
      const client = worker();
      return (await unary(client.abort.bind(client), { requestId }, deadline(ABORT_MS_MAX))).receipt;
    },
    async metrics() {
      const client = worker();
      return unary(client.metrics.bind(client), {}, deadline(WORKER_METRICS_MS));
    },
    watch(onStatus, onEnd) {
      const call = worker().watch({}, priority(CONTROL));
      call.on('data', (status: WorkerStatus) => {
        call.pause();
        setTimeout(() => call.resume(), STATUS_GAP_MS).unref();
        onStatus(status);
      });
      call.on('error', onEnd); // also of a cancelled call, and of a worker that does not know the question
      call.on('end', onEnd);
      return { stop: () => call.cancel() };
    },
    invoke: (deadlineMs) => worker().invoke(priority(ANSWERS), deadline(deadlineMs)),
    receipts: () => worker().receipts(priority(CONTROL)),
    close() {
      client.close();
      socket.destroy();
    },
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
    method(request, priority(CONTROL), options, (error, reply) =>
      error === null ? resolve(reply) : reject(fromGrpcError(error)),
    );
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

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
