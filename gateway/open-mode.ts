import type { IncomingMessage, ServerResponse } from 'node:http';
import { sealRequest, type OpenedResponse } from '../client/index.ts';
import { nodeHasher, nodeSuite } from '../proto/node.ts';
import { bodyLimits, CfnError, toCfnError, type SignedManifest } from '../proto/index.ts';
import { abandon } from './abandon.ts';
import { requestFields, responseFields } from './http-fields.ts';
import type { Relayed } from './relay.ts';
import type { RequestBody } from './request-body.ts';
import { receiveSealed, sendSealed } from './sealed-stream.ts';
import type { Route } from './router.ts';

export interface OpenCall {
  readonly requestId: string;
  readonly version: SignedManifest;
  /** Path and query that the function sees. */
  readonly path: string;
  readonly authority: string;
  /** The field of the caller's token for the gateway, which the function does not get. */
  readonly tokenField: string | undefined;
  readonly body: RequestBody;
  readonly deadlineMs: number;
  readonly now: Date;
  /** Asks the worker for the times of its steps. */
  readonly trace: boolean;
}

/**
 * Acts as the caller's client: seals to the worker, opens the answer, and gives it plainly. The answer says that the gateway saw
 * it. Everything after the seal is what a sealed call goes through.
 *
 * Rejects before the worker was called; later failures are told as by {@link relay}.
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
      headers: requestFields(source.rawHeaders, it.tokenField),
      ...it.body,
    },
    ...bodyLimits(it.version.manifest.limits),
    now: it.now,
    workerId: worker.workerId,
    suite: nodeSuite,
    hasher: nodeHasher,
  });

  const call = connection.invoke(it.deadlineMs);
  const response = receiveSealed(call);
  const onClose = (): void => {
    if (!sink.writableFinished) response.stop(new CfnError('CFN_ABORTED', 'the caller went away'));
  };
  sink.once('close', onClose);
  try {
    const { requestId, deadlineMs, trace } = it;
    call.write({ head: { requestId, version: it.version.version, deadlineMs, trace } });
    // Not awaited before the answer is read: a worker may refuse while the body is still on its way.
    sendSealed(call, exchange.body).catch((cause: unknown) => response.stop(toCfnError(cause)));
    const opened = await exchange.open(response.bytes);
    await writeAnswer(
      sink,
      opened,
      () => writeHead(sink, opened, it, worker),
      (failure) => response.stop(failure),
    );
    const receipt = await opened.receipt;
    if (trace) await response.ended; // the times come after the answer, and the caller has that
    return { receipt, failure: undefined, timings: response.timings() };
  } catch (cause) {
    const failure = toCfnError(cause);
    if (sink.headersSent) sink.destroy();
    if (response.over()) return { receipt: response.receipt(), failure };
    const late = await abandon(connection, it.requestId, call);
    return { receipt: response.receipt() ?? late, failure };
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

/** Sends the head with the first chunk, or soon; what fails before that can still be said in its place. */
async function writeAnswer(
  sink: ServerResponse,
  opened: OpenedResponse,
  writeHead: () => void,
  stop: (failure: CfnError) => void,
): Promise<void> {
  // A first chunk that is there already travels with the head; a function that streams later gets its head sent now.
  const flush = setImmediate(() => {
    try {
      writeHead();
      sink.flushHeaders();
    } catch (cause) {
      stop(toCfnError(cause));
    }
  });
  const begin = (): void => {
    clearImmediate(flush);
    if (!sink.headersSent) writeHead();
  };
  try {
    for await (const chunk of opened.body) {
      if (sink.destroyed) throw new CfnError('CFN_ABORTED', 'the caller went away');
      begin();
      if (!sink.write(chunk)) await writable(sink);
    }
    // Only here is the end authenticated, and the receipt checked: `end` says to the caller that the answer is whole.
    begin();
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
