import { createHash } from 'node:crypto';
import { once } from 'node:events';
import 'reflect-metadata';
import { Metadata, status, type ServerDuplexStream, type ServerWritableStream } from '@grpc/grpc-js';
import { X509CertificateGenerator } from '@peculiar/x509';
import type { Attester } from '../attestation/attester/index.ts';
import {
  GRPC_CODE_KEY,
  type EvidenceRequest,
  type InvokeHead,
  type InvokeRequest,
  type InvokeResponse,
  type InvokeTimings,
  type LoadFunctionRequest,
  type WorkerStatus,
} from '../proto/grpc.ts';
import { nodeSuite } from '../proto/node.ts';
import { listenForSessions } from '../runtime/agent/session-listener.ts';
import {
  callerNonce,
  CfnError,
  channelNonce,
  concatBytes,
  CONTENT_END,
  createRequestOpener,
  decodeRequest,
  encodeContentChunk,
  encodeResponseHead,
  encodeTrailers,
  encodeWorkerKeys,
  evidenceDigest,
  generateOhttpKeys,
  parseModelPackage,
  signReceipt,
  toBase64url,
  toCfnError,
  toHex,
  toProblem,
  utf8,
  verifyBundle,
  verifyManifest,
  workerId as workerIdOf,
  type Channel,
  type DecodedRequest,
  type Evidence,
  type Receipt,
  type SignedManifest,
} from '../proto/index.ts';

/** What a function of the throwaway worker answers: pieces of a body, at its own pace. */
export interface Answer {
  readonly status: number;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface ThrowawayWorker {
  readonly address: string;
  readonly workerId: string;
  readonly tls: TlsIdentity;
  readonly keysDocument: Uint8Array;
  /** Versions that were handed over, in order, repeats included. */
  readonly loads: string[];
  readonly invocations: InvokeHead[];
  /** Calls whose caller went away. */
  cancelled: number;
  /** Tells all gateways this of itself, and whoever asks later; until then it says which versions it has. */
  tell(status: WorkerStatus): void;
  /** Drops every connection, as a killed process does. */
  kill(): void;
}

export interface TlsIdentity {
  readonly privateKeyPem: string;
  readonly certificatePem: string;
  readonly spki: string;
}

export interface ThrowawayOptions {
  readonly attester: Attester;
  readonly gatewayCertificatePem: string;
  readonly listen?: string;
  readonly run: (request: DecodedRequest, worker: ThrowawayWorker) => Answer | Promise<Answer>;
  /** Opens nothing, and answers as many bytes as came, with a receipt: all that a relay can tell apart. */
  readonly blind?: boolean;
  /** What an attacker between worker and gateway, or a worker that turned bad, makes of the evidence. */
  readonly tamper?: (evidence: Evidence) => Evidence | Promise<Evidence>;
  /** How it makes evidence of admission. Default: as the contract says. */
  readonly evidenceFor?: (nonce: Buffer, channel: Channel) => Promise<Evidence>;
  /** A TLS key that another machine has, too. */
  readonly tls?: TlsIdentity;
  /** Another TLS key in the keys document than the one served. */
  readonly foreignTlsKey?: boolean;
  /** What a worker that lies says it loaded. */
  readonly claimedVersion?: (version: string) => string;
  /** What it says of the steps of an invocation, where it is asked. */
  readonly timings?: () => InvokeTimings;
  /** What it says of itself. */
  readonly metrics?: () => object;
  /** What becomes of a receipt on its way to the ledger. */
  readonly alterReceipt?: (jws: string) => string;
  /** Runs before a version is taken; throws what the worker refuses it with. */
  readonly onLoad?: (signed: SignedManifest) => void | Promise<void>;
}

type Call = ServerDuplexStream<InvokeRequest, InvokeResponse>;

/**
 * A working worker with throwaway keys: mutual TLS, evidence, sealed requests and signed receipts as the contract says. Functions
 * are closures of the test.
 */
export async function throwawayWorker(options: ThrowawayOptions): Promise<ThrowawayWorker> {
  const tls = options.tls ?? (await tlsIdentity());
  const ohttp = await generateOhttpKeys(1, nodeSuite);
  const receiptKeys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const document = encodeWorkerKeys({
    format: 'cfn/worker-keys/v1',
    tls: { spki: options.foreignTlsKey === true ? '0'.repeat(64) : tls.spki },
    ohttp: { config: toBase64url(ohttp.config) },
    receipt: { publicKey: toBase64url(new Uint8Array(await crypto.subtle.exportKey('raw', receiptKeys.publicKey))) },
    notAfter: new Date(Date.now() + 3_600_000).toISOString(),
  });
  const workerId = await workerIdOf(document);
  const functions = new Map<string, SignedManifest>();
  const watching = new Set<ServerWritableStream<object, WorkerStatus>>();
  let told: WorkerStatus | undefined;
  let admissionEvidence = '';
  let sequence = 0;

  const ownStatus = (): WorkerStatus =>
    told ?? { capacity: 256, versions: [...functions.keys()].map((version) => ({ version })) };
  const tellAll = (): void => {
    for (const call of watching) call.write(ownStatus());
  };

  async function getEvidence({ nonce, admission }: EvidenceRequest, channel: Channel): Promise<{ evidence: Buffer }> {
    if (admission && options.evidenceFor !== undefined)
      return { evidence: Buffer.from(JSON.stringify(await options.evidenceFor(nonce, channel))) };
    const quoted = await (admission ? channelNonce(nonce, channel) : callerNonce(nonce));
    const honest = await options.attester.collect(quoted, document);
    const evidence = (await options.tamper?.(honest)) ?? honest;
    if (admission) admissionEvidence = await evidenceDigest(honest);
    return { evidence: Buffer.from(JSON.stringify(evidence)) };
  }

  async function loadFunction({ manifest, bundle, modelManifests }: LoadFunctionRequest): Promise<{ version: string }> {
    const signed = await verifyManifest(manifest);
    await verifyBundle(signed.manifest, bundle);
    for (const [i, { digest }] of signed.manifest.models.entries())
      await parseModelPackage(modelManifests[i] ?? new Uint8Array(), digest);
    worker.loads.push(signed.version);
    if (signed.manifest.name === 'unloadable') throw new CfnError('CFN_GRANT_MISSING', 'no grant for this function');
    await options.onLoad?.(signed);
    functions.set(signed.version, signed);
    tellAll();
    return { version: options.claimedVersion?.(signed.version) ?? signed.version };
  }

  async function invoke(call: Call): Promise<void> {
    if (options.blind === true) return echoUnopened(call);
    const opener = createRequestOpener(ohttp);
    const requestHash = createHash('sha256');
    let requestBytes = 0;
    let head: InvokeHead | undefined;
    const plain: Uint8Array[] = [];
    call.on('cancelled', () => worker.cancelled++);
    // A refusal half way must leave the stream whole: a destroyed one sends no status.
    for await (const message of call.iterator({ destroyOnReturn: false }) as AsyncIterable<InvokeRequest>) {
      head ??= message.head;
      if (message.chunk === undefined) continue;
      requestHash.update(message.chunk);
      requestBytes += message.chunk.length;
      plain.push(...(await opener.push(message.chunk)));
    }
    plain.push(...(await opener.end()));
    const signed = functions.get(head?.version ?? '');
    if (head === undefined || signed === undefined)
      throw new CfnError('CFN_FUNCTION_NOT_FOUND', 'this worker has no such version');
    worker.invocations.push(head);

    const sealer = await opener.createResponseSealer();
    const responseHash = createHash('sha256');
    let responseBytes = 0;
    const send = (bytes: Uint8Array): void => {
      responseHash.update(bytes);
      responseBytes += bytes.length;
      call.write({ chunk: bytes });
    };
    send(sealer.header);
    const answer = await answerOf(plain, signed, options, worker);
    send(await sealer.seal(encodeResponseHead(answer.status, answer.headers ?? [])));
    for await (const piece of answer.body) {
      send(await sealer.seal(encodeContentChunk(piece)));
      if (call.writableNeedDrain) await Promise.race([once(call, 'drain'), once(call, 'cancelled')]);
    }
    send(await sealer.seal(CONTENT_END));
    const receipt = await receiptOf(
      head,
      signed,
      { digest: requestHash.digest('hex'), bytes: requestBytes },
      { digest: responseHash.digest('hex'), bytes: responseBytes, status: answer.status },
    );
    call.write({ chunk: await sealer.sealFinal(encodeTrailers([['cfn-receipt', receipt]])) });
    const timings = head.trace === true ? options.timings?.() : undefined;
    call.write({ end: { receipt: options.alterReceipt?.(receipt) ?? receipt, ...(timings && { timings }) } });
    call.end();
  }

  async function echoUnopened(call: Call): Promise<void> {
    let head: InvokeHead | undefined;
    let bytes = 0;
    for await (const message of call.iterator({ destroyOnReturn: false }) as AsyncIterable<InvokeRequest>) {
      head ??= message.head;
      if (message.chunk === undefined) continue;
      bytes += message.chunk.length;
      if (!call.write({ chunk: message.chunk })) await once(call, 'drain');
    }
    const signed = functions.get(head?.version ?? '');
    if (head === undefined || signed === undefined)
      throw new CfnError('CFN_FUNCTION_NOT_FOUND', 'this worker has no such version');
    const digest = '0'.repeat(64);
    call.write({ end: { receipt: await receiptOf(head, signed, { digest, bytes }, { digest, bytes, status: 200 }) } });
    call.end();
  }

  function receiptOf(
    head: InvokeHead,
    { manifest, version }: SignedManifest,
    request: Receipt['request'],
    response: Receipt['response'],
  ): Promise<string> {
    return signReceipt(
      {
        format: 'cfn/receipt/v1',
        id: head.requestId,
        issuedAt: new Date().toISOString(),
        worker: workerId,
        tee: 'simulated',
        evidence: admissionEvidence,
        function: { tenant: manifest.tenant, name: manifest.name, version },
        models: [],
        request,
        response,
        outcome: response.status === 200 ? 'ok' : 'CFN_FUNCTION_THREW',
        usage: { cpuMs: 1, wallMs: 1, engineMs: 0, engineCalls: 0 },
        egress: [],
        wipe: {
          isolateDisposed: true,
          sandboxBytesOverwritten: 0,
          engineBytesOverwritten: 0,
          agentBytesOverwritten: 0,
        },
        sequence: sequence++,
        previous: '',
      },
      async (data) => new Uint8Array(await crypto.subtle.sign('Ed25519', receiptKeys.privateKey, data)),
    );
  }

  const identity = { ...tls, gatewayCertificatePem: options.gatewayCertificatePem };
  const grpc = { 'grpc.max_receive_message_length': 24 * 1024 * 1024 };
  const listener = await listenForSessions(options.listen ?? '127.0.0.1:0', grpc, identity, (channel) => ({
    getEvidence: unary((request: EvidenceRequest) => getEvidence(request, channel)),
    loadFunction: unary(loadFunction),
    metrics: unary(async () => options.metrics?.() ?? {}),
    invoke: (call: Call) => {
      invoke(call).catch((cause: unknown) => call.emit('error', grpcError(cause)));
    },
    watch: (call: ServerWritableStream<object, WorkerStatus>) => {
      watching.add(call);
      call.once('cancelled', () => watching.delete(call));
      call.write(ownStatus());
    },
  }));
  const worker: ThrowawayWorker = {
    address: listener.address,
    tls,
    keysDocument: document,
    workerId,
    loads: [],
    invocations: [],
    cancelled: 0,
    tell(next) {
      told = next;
      tellAll();
    },
    kill: () => listener.kill(),
  };
  return worker;
}

async function answerOf(
  plain: Uint8Array[],
  signed: SignedManifest,
  { run }: ThrowawayOptions,
  worker: ThrowawayWorker,
): Promise<Answer> {
  try {
    const request = decodeRequest(concatBytes(...plain));
    if (request.headers.find(([name]) => name === 'cfn-function-version')?.[1] !== signed.version) {
      throw new CfnError('CFN_VERSION_MISMATCH', 'sealed for another version');
    }
    return await run(request, worker);
  } catch (cause) {
    const error = toCfnError(cause);
    return {
      status: error.status,
      headers: [['content-type', 'application/problem+json']],
      body: [utf8(JSON.stringify(toProblem(error)))],
    };
  }
}

function unary<Q, R>(handle: (request: Q) => Promise<R>) {
  return (call: { request: Q }, callback: (error: Error | null, reply?: R) => void): void => {
    handle(call.request).then(
      (reply) => callback(null, reply),
      (cause: unknown) => callback(grpcError(cause)),
    );
  };
}

function grpcError(cause: unknown): Error {
  const { code, message } = toCfnError(cause);
  const metadata = new Metadata();
  metadata.set(GRPC_CODE_KEY, code);
  return Object.assign(new Error(message), { code: status.FAILED_PRECONDITION, details: message, metadata });
}

async function tlsIdentity(): Promise<TlsIdentity> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=throwaway worker',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    keys,
    signingAlgorithm: algorithm,
    serialNumber: toHex(crypto.getRandomValues(new Uint8Array(8))),
  });
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const spki = createHash('sha256')
    .update(Buffer.from(await crypto.subtle.exportKey('spki', keys.publicKey)))
    .digest('hex');
  return {
    privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`,
    certificatePem: certificate.toString('pem'),
    spki,
  };
}
