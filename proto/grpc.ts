import { fileURLToPath } from 'node:url';
import {
  loadPackageDefinition,
  type ClientDuplexStream,
  type ClientReadableStream,
  type Metadata,
  type ServiceClientConstructor,
  type ServiceDefinition,
  type ServiceError,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** Messages of `worker.proto`, as proto-loader gives them (camelCase, bytes as Buffer, oneof name in `part`). */
export interface EvidenceRequest {
  readonly nonce: Buffer;
  readonly admission: boolean;
}
export interface EvidenceReply {
  readonly evidence: Buffer;
}
export interface LoadFunctionRequest {
  readonly manifest: string;
  readonly bundle: Buffer;
  readonly modelManifests: Buffer[];
}
export interface LoadFunctionReply {
  readonly version: string;
}
export interface AbortRequest {
  readonly requestId: string;
}
export interface AbortReply {
  readonly receipt: string;
}
export interface InvokeHead {
  readonly requestId: string;
  readonly version: string;
  readonly deadlineMs: number;
  readonly trace?: boolean;
}
/** Microseconds. Zeros are absent on the wire. */
export interface InvokeTimings {
  readonly openedUs?: number;
  readonly startedUs?: number;
  readonly answeredUs?: number;
  readonly wipedUs?: number;
  readonly engineUs?: number;
}
/** Zeros are absent on the wire. */
export interface MetricsReply {
  readonly requests?: readonly { readonly outcome?: string; readonly count?: number }[];
  readonly engineMs?: number;
  readonly engineCalls?: number;
  readonly wiped?: number;
  readonly unwiped?: number;
  readonly wipeMs?: number;
  readonly sandboxes?: number;
  readonly engines?: number;
  readonly leases?: number;
  readonly memoryBytes?: number;
}
export interface InvokeRequest {
  readonly part?: 'head' | 'chunk';
  readonly head?: InvokeHead;
  readonly chunk?: Buffer | Uint8Array;
}
export interface InvokeResponse {
  readonly part?: 'chunk' | 'end';
  readonly chunk?: Buffer | Uint8Array;
  readonly end?: { readonly receipt: string; readonly timings?: InvokeTimings };
}
/** Fields that are zero, false or empty are absent on the wire. */
export interface WorkerStatus {
  readonly inflight?: number;
  readonly capacity?: number;
  readonly versions?: readonly { readonly version: string; readonly inflight?: number }[];
  readonly models?: readonly string[];
  readonly memoryFree?: number;
  readonly memoryBudget?: number;
  readonly leaving?: boolean;
}

export interface ReceiptAcknowledgement {
  readonly sequences?: number[];
}
export interface OutstandingReceipts {
  readonly receipts?: string[];
}

type Unary<Q, R> = (
  request: Q,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, reply: R) => void,
) => void;
/** The generated client, with our types. */
export interface WorkerClient {
  getEvidence: Unary<EvidenceRequest, EvidenceReply>;
  loadFunction: Unary<LoadFunctionRequest, LoadFunctionReply>;
  abort: Unary<AbortRequest, AbortReply>;
  metrics: Unary<object, MetricsReply>;
  invoke(metadata: Metadata, options: { deadline: number }): ClientDuplexStream<InvokeRequest, InvokeResponse>;
  receipts(metadata: Metadata): ClientDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>;
  watch(request: object, metadata: Metadata): ClientReadableStream<WorkerStatus>;
  close(): void;
}

const definition = loadSync(fileURLToPath(new URL('worker.proto', import.meta.url)), {
  keepCase: false,
  longs: Number,
  defaults: false,
  oneofs: true,
  enums: String,
});
interface Loaded {
  cfn: { worker: { v1: { Worker: ServiceClientConstructor } } };
}
const loaded = loadPackageDefinition(definition) as unknown as Loaded;

/** Client constructor (`new WorkerClientConstructor(address, credentials, options) as unknown as WorkerClient`) and service definition. */
export const WorkerClientConstructor: ServiceClientConstructor = loaded.cfn.worker.v1.Worker;
export const workerService: ServiceDefinition<UntypedServiceImplementation> = WorkerClientConstructor.service;
/** gRPC metadata key under which an error's stable code travels. */
export const GRPC_CODE_KEY = 'cfn-code';
