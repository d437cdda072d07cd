import type { IncomingMessage, ServerResponse } from 'node:http';
import { sealRequest, type OpenedResponse } from '../client/index.ts';
import { nodeHasher, nodeSuite } from '../proto/node.ts';
import { CfnError, REQUEST_BYTES_MAX, toCfnError, type SignedManifest } from '../proto/index.ts';
import { requestFields, responseFields } from './http-fields.ts';
import { receiveSealed, sendSealed } from './sealed-stream.ts';
import type { Relayed } from './relay.ts';
import type { Route } from './router.ts';

export interface OpenCall {
  readonly requestId: string;
  readonly version: SignedManifest;
  /** Path and query that the function sees. */
  readonly path: string;
  readonly authority: string;
  readonly body: Uint8Array | undefined;
  readonly deadlineMs: number;
  readonly now: Date;
}

/**
 * Acts as the caller's client: seals to the worker, opens the answer, and gives it plainly. The answer says that the gateway saw
 * it. Everything after the seal is what a sealed call goes through.
 *
 * Rejects as long as nothing has been sent; later failures destroy the connection, like {@link relay}.
 */
export async function openCall(
  { worker, connection }: Route,
  it: OpenCall,
  source: IncomingMessage,
  sink: ServerResponse,
): Promise<Relayed> {
  const exchange = await sealRequest({
    workerKeys: worker.keys,
    version: it.version.version,
    request: {
      method: source.method ?? 'GET',
      authority: it.authority,
      path: it.path,
      headers: requestFields(source.rawHeaders),
      ...(it.body === undefined ? {} : { body: it.body }),
    },
    now: it.now,
    workerId: worker.workerId,
    suite: nodeSuite,
    hasher: nodeHasher,
  });

  const call = connection.invoke(it.deadlineMs);
  const response = receiveSealed(call);
  const onClose = (): void => {
    if (!sink.writableFinished) call.cancel();
  };
  sink.once('close', onClose);
  try {
    call.write({ head: { requestId: it.requestId, version: it.version.version, deadlineMs: it.deadlineMs } });
    // Not awaited before the answer is read: a worker may refuse while the body is still on its way.
    const sending = sendSealed(call, exchange.body);
    sending.catch(() => call.cancel());
    const opened = await exchange.open(response);
    writeHead(sink, opened, it, worker);
    await writeBody(sink, opened);
    return { receipt: await opened.receipt, failure: undefined };
  } catch (cause) {
    call.cancel();
    const failure = sink.destroyed ? new CfnError('CFN_ABORTED', 'the caller went away', { cause }) : toCfnError(cause);
    if (!sink.headersSent) throw failure;
    sink.destroy();
    return { receipt: undefined, failure };
  } finally {
    sink.off('close', onClose);
  }
}

function writeHead(
  sink: ServerResponse,
  { status, headers }: OpenedResponse,
  it: OpenCall,
  worker: Route['worker'],
): void {
  if (status < 200 || status > 599)
    throw new CfnError('CFN_RESPONSE_MALFORMED', `the function answered with status ${status}`);
  const own = {
    'cfn-request-id': it.requestId,
    'cfn-confidentiality': 'gateway-visible',
    'cfn-tee': worker.tee,
    'cfn-function-version': it.version.version,
  };
  try {
    sink.writeHead(status, [...responseFields(headers), ...Object.entries(own).flat()]);
  } catch (cause) {
    throw new CfnError(
      'CFN_RESPONSE_MALFORMED',
      'the function answered with a header field that HTTP/1.1 cannot carry',
      { cause },
    );
  }
}

async function writeBody(sink: ServerResponse, opened: OpenedResponse): Promise<void> {
  // A first chunk that is there already travels with the head; a function that streams later gets its head sent now.
  const flush = setImmediate(() => sink.flushHeaders());
  try {
    for await (const chunk of opened.body) {
      clearImmediate(flush);
      if (sink.destroyed) throw new CfnError('CFN_ABORTED', 'the caller went away');
      if (!sink.write(chunk)) await writable(sink);
    }
    // Only here is the end authenticated, and the receipt checked: `end` says to the caller that the answer is whole.
    sink.end();
  } finally {
    clearImmediate(flush);
  }
}

function writable(sink: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      sink.off('drain', done);
      sink.off('close', done);
      resolve();
    };
    sink.once('drain', done);
    sink.once('close', done);
  });
}

/** @throws {CfnError} `CFN_BODY_TOO_LARGE`, or `CFN_ABORTED` when the caller goes away. `undefined`: there is no body. */
export function readBody(source: IncomingMessage): Promise<Uint8Array | undefined> {
  const { 'content-length': length, 'transfer-encoding': encoding } = source.headers;
  if (encoding === undefined && (length === undefined || length === '0')) return Promise.resolve(undefined);
  // Made only where needed: an error captures a stack, which costs more than the rest of this function.
  const tooLarge = (): CfnError =>
    new CfnError('CFN_BODY_TOO_LARGE', `a request body has at most ${REQUEST_BYTES_MAX} bytes`);
  if (Number(length) > REQUEST_BYTES_MAX) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > REQUEST_BYTES_MAX) {
        source.off('data', onData);
        chunks.length = 0;
        reject(tooLarge());
      } else chunks.push(chunk);
    };
    source.on('data', onData);
    source.once('end', () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, bytes)));
    source.once('close', () => {
      if (!source.readableEnded) reject(new CfnError('CFN_ABORTED', 'the caller went away'));
    });
  });
}
