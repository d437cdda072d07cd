import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  CfnError,
  REQUEST_BYTES_MAX,
  RESPONSE_BYTES_MAX,
  toCfnError,
  type ErrorCode,
  type Receipt,
} from '../../proto/index.ts';
import type { InvokeHead, InvokeRequest, InvokeResponse } from '../../proto/grpc.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { FunctionHost, ReadyFunction } from './function-host.ts';
import type { WorkerKeyring } from './keys.ts';
import { openRequest, type OpenedRequest } from './open-request.ts';
import type { ReceiptChain } from './receipts.ts';
import type { InvocationEnd } from './sandbox-process.ts';
import { sealedAnswer, type SealedAnswer } from './sealed-answer.ts';

type Call = ServerDuplexStream<InvokeRequest, InvokeResponse>;

/** Serves one sealed request: open, run, seal the answer as it comes, wipe, receipt. Throws only before the request is open. */
export type Invoker = (call: Call) => Promise<void>;

export interface InvokerDeps {
  readonly keys: WorkerKeyring;
  readonly evidence: EvidenceSource;
  readonly functions: FunctionHost;
  readonly refuseReplay: (encapsulatedKey: Uint8Array, date: Date) => void;
  readonly sign: ReceiptChain;
  readonly now: () => Date;
}

/** Sealed bytes over the body's own limit: head, chunk frames and tags. */
const SEALED_BYTES_MAX = REQUEST_BYTES_MAX + 1024 * 1024;

export function invoker(deps: InvokerDeps): Invoker {
  return async (call) => {
    const parts = call[Symbol.asyncIterator]() as AsyncIterator<InvokeRequest>;
    const head = await takeHead(parts);
    deps.functions.signed(head.version); // an unknown version is refused before anything is opened
    const ready = deps.functions.ready(head.version); // starts what must start while the request comes in
    ready.catch(() => undefined);
    const request = await openRequest(deps.keys.ohttp, chunks(parts), SEALED_BYTES_MAX);
    try {
      const answer = await sealedAnswer(request, call);
      const { outcome, end, running } = await run(deps, head, request, ready, answer, call);
      const agentBytesOverwritten = request.wipe() + answer.bytesOverwritten();
      const receipt = await deps.sign(
        claims(deps, head, request, answer, outcome, end, running, agentBytesOverwritten),
      );
      await answer.finish(receipt);
      call.end();
    } finally {
      request.wipe();
    }
  };
}

interface Outcome {
  readonly outcome: 'ok' | ErrorCode;
  readonly end: InvocationEnd | undefined;
  readonly running: ReadyFunction | undefined;
}

/** Runs the request; every failure becomes a sealed answer where none has started yet. */
async function run(
  deps: InvokerDeps,
  head: InvokeHead,
  request: OpenedRequest,
  ready: Promise<ReadyFunction>,
  answer: SealedAnswer,
  call: Call,
): Promise<Outcome> {
  let running: ReadyFunction | undefined;
  let end: InvocationEnd | undefined;
  try {
    deps.refuseReplay(request.encapsulatedKey, request.date);
    if (request.version !== head.version) {
      throw new CfnError(
        'CFN_VERSION_MISMATCH',
        'the request was sealed for another function version than it was routed to',
      );
    }
    running = await ready;
    const { sandbox, signed } = running;
    const wallMs = Math.min(signed.manifest.limits.wallMs, head.deadlineMs || signed.manifest.limits.wallMs);
    let tooLarge = false;
    const abort = (): void => sandbox.abort(head.requestId);
    call.once('cancelled', abort);
    end = await sandbox.invoke(head.requestId, request.plaintext, wallMs, (piece, status) => {
      if (!answer.write(piece, status, RESPONSE_BYTES_MAX) && !tooLarge) {
        tooLarge = true;
        abort();
      }
    });
    call.off('cancelled', abort);
    await answer.flushed();
    if (tooLarge) throw new CfnError('CFN_LIMIT_RESPONSE', `the answer is over ${RESPONSE_BYTES_MAX} bytes`);
    if (end.code !== undefined) throw new CfnError(end.code, MESSAGES[end.code] ?? 'the invocation failed');
    return { outcome: 'ok', end, running };
  } catch (cause) {
    const error = toCfnError(cause);
    await answer.writeProblem(error);
    return { outcome: error.code, end, running };
  }
}

/** What a caller reads; nothing in it comes from the function. */
const MESSAGES: Partial<Record<ErrorCode, string>> = {
  CFN_FUNCTION_THREW: 'the function threw an error',
  CFN_FUNCTION_NO_RESPONSE: 'the handler returned no Response',
  CFN_LIMIT_CPU: 'the function used up its CPU time',
  CFN_LIMIT_WALL: 'the function took too long',
  CFN_LIMIT_MEMORY: 'the function used up its memory',
  CFN_LIMIT_RESPONSE: 'the answer is too large',
  CFN_SANDBOX_LOST: 'the sandbox process ended during the invocation',
  CFN_ENGINE_LOST: 'the engine process ended during the invocation',
  CFN_ABORTED: 'the caller went away',
};

function claims(
  deps: InvokerDeps,
  head: InvokeHead,
  request: OpenedRequest,
  answer: SealedAnswer,
  outcome: Outcome['outcome'],
  end: InvocationEnd | undefined,
  running: ReadyFunction | undefined,
  agentBytesOverwritten: number,
): Omit<Receipt, 'sequence' | 'previous'> {
  const signed = running?.signed ?? deps.functions.signed(head.version);
  const { tenant, name } = signed.manifest;
  return {
    format: 'cfn/receipt/v1',
    id: head.requestId,
    issuedAt: deps.now().toISOString(),
    worker: deps.keys.workerId,
    tee: deps.evidence.tee,
    evidence: deps.evidence.admissionDigest(),
    function: { tenant, name, version: signed.version },
    models: (running?.models ?? []).map(({ binding, model, digest, policy }) => ({ binding, model, digest, policy })),
    request: { digest: request.digest, bytes: request.sealedBytes },
    response: answer.digest(),
    outcome,
    usage: end?.usage ?? { cpuMs: 0, wallMs: 0, engineMs: 0, engineCalls: 0 },
    egress: [], // no road out of a sandbox exists
    wipe: {
      ...(end?.wipe ?? { isolateDisposed: true, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0 }),
      agentBytesOverwritten,
    },
  };
}

async function takeHead(parts: AsyncIterator<InvokeRequest>): Promise<InvokeHead> {
  const first = await parts.next();
  const head = first.done === true ? undefined : first.value.head;
  if (
    head === undefined ||
    !/^[0-9a-f]{32}$/.test(head.requestId ?? '') ||
    !/^[0-9a-f]{64}$/.test(head.version ?? '')
  ) {
    throw new CfnError('CFN_REQUEST_MALFORMED', 'the first message must be a head with request id and version');
  }
  return { requestId: head.requestId, version: head.version, deadlineMs: head.deadlineMs ?? 0 };
}

async function* chunks(parts: AsyncIterator<InvokeRequest>): AsyncGenerator<Uint8Array> {
  for (let part = await parts.next(); part.done !== true; part = await parts.next()) {
    if (part.value.chunk === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', 'only chunks may follow the head');
    yield part.value.chunk;
  }
}
