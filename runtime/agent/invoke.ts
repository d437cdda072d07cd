import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  bodyLimits,
  CfnError,
  encodedResponseBytesMax,
  toCfnError,
  type EgressUse,
  type ErrorCode,
} from '../../proto/index.ts';
import type { InvokeHead, InvokeRequest, InvokeResponse } from '../../proto/grpc.ts';
import { callMessages } from './call-messages.ts';
import { countInvocation } from './count-invocation.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { FunctionHost, ReadyFunction } from './function-host.ts';
import type { WorkerKeyring } from './keys.ts';
import { overwriteStackSoon } from './own-stack.ts';
import { openRequest, type OpenedRequest } from './open-request.ts';
import { claims, refusalClaims } from './receipt-claims.ts';
import type { ReceiptBook } from './receipts.ts';
import { egressSession, type EgressDeps, type EgressSession } from './egress/session.ts';
import type { InvocationEnd, InvocationRequest } from './sandbox-process.ts';
import { sealedAnswer, type SealedAnswer } from './sealed-answer.ts';
import { sealedBytes } from './sealed-bytes.ts';
import { timeline, type Timeline } from './timeline.ts';
import type { WorkerMetrics } from './worker-metrics.ts';

type Call = ServerDuplexStream<InvokeRequest, InvokeResponse>;

export interface Invoker {
  /**
   * Serves one sealed request: open, run, seal the answer as it comes, wipe, receipt. Throws where the request cannot be opened, and
   * where it broke off before any answer: then, too, a receipt says so and was sent. Without one are calls that name no request, and those
   * for whose receipt there is no room.
   */
  serve(call: Call): Promise<void>;
  /** The caller has gone: ends the invocation. Gives its receipt, if it comes to one. */
  abort(requestId: string): Promise<string | undefined>;
  /** Requests under way. */
  inflight(): number;
}

export interface InvokerDeps {
  readonly keys: WorkerKeyring;
  readonly evidence: EvidenceSource;
  readonly functions: FunctionHost;
  readonly refuseReplay: (encapsulatedKey: Uint8Array, date: Date) => void;
  readonly receipts: Pick<ReceiptBook, 'reserve'>;
  readonly now: () => Date;
  readonly egress: EgressDeps;
  readonly metrics: Pick<WorkerMetrics, 'invoked'>;
  readonly monotonicMs: () => number;
  /** Requests at once. Gateways keep to it; several of them may overlook one another. */
  readonly capacity: number;
}

interface Active {
  readonly gone: AbortController;
  readonly receipt: PromiseWithResolvers<string | undefined>;
}

export function invoker(deps: InvokerDeps): Invoker {
  const active = new Map<string, Active>();

  async function serve(call: Call): Promise<void> {
    const parts = callMessages(call);
    const head = await takeHead(parts);
    const place = deps.receipts.reserve();
    const times = timeline(deps.monotonicMs);
    const gone = new AbortController();
    const receipt = Promise.withResolvers<string | undefined>();
    call.once('cancelled', () => gone.abort());
    active.set(head.requestId, { gone, receipt });
    const sealed = sealedBytes(chunks(parts));
    try {
      if (active.size > deps.capacity) throw new CfnError('CFN_BUSY', `${active.size - 1} requests are under way here`);
      const { limits } = deps.functions.signed(head.version).manifest; // an unknown version is refused before anything is opened
      deps.functions.ready(head.version).catch(() => undefined); // starts what must start while the request comes in
      const request = await openRequest(deps.keys.ohttp, sealed, bodyLimits(limits).requestBytesMax);
      times.mark('opened');
      try {
        const answer = await sealedAnswer(request, call, gone.signal);
        const { refusal, ...ran } = await run(deps, head, request, answer, gone.signal, times);
        await answer.flushed();
        const agentBytesOverwritten = request.wipe() + answer.bytesOverwritten();
        // A refusal is said outside the seal.
        const status = refusal === undefined ? {} : { status: refusal.status };
        const digests = { request: sealed.digest(), response: { ...answer.digest(), ...status } };
        const claimed = claims(deps, head, { ...digests, ...ran, agentBytesOverwritten });
        deps.metrics.invoked(claimed, times.wipeMs());
        const jws = await place.sign(claimed);
        receipt.resolve(jws);
        await answer.finish(jws, head.trace === true ? times.timings(claimed.usage.engineMs) : undefined);
        if (refusal !== undefined) throw refusal;
        call.end();
      } finally {
        request.wipe();
      }
    } catch (cause) {
      if (!place.isSigned()) {
        const jws = await place.sign(refusalClaims(deps, head, sealed.digest(), toCfnError(cause)));
        receipt.resolve(jws);
        if (!gone.signal.aborted) call.write({ end: { receipt: jws } });
      }
      throw cause;
    } finally {
      overwriteStackSoon();
      active.delete(head.requestId);
      place.release();
      receipt.resolve(undefined);
    }
  }
  return {
    serve,
    async abort(requestId) {
      const it = active.get(requestId);
      it?.gone.abort();
      return it?.receipt.promise;
    },
    inflight: () => active.size,
  };
}

interface Outcome {
  readonly outcome: 'ok' | ErrorCode;
  readonly end: InvocationEnd | undefined;
  readonly models: ReadyFunction['models'] | undefined;
  readonly egress: readonly EgressUse[];
  /** The request is not whole, so that no answer could be checked against it, and none has begun: said outside the seal. */
  readonly refusal?: CfnError;
}

/** How long a failed invocation waits for the rest of its request, in ms. After that, the failure is said outside the seal. */
const UPLOAD_WAIT_MS = 1_000;

/** Runs the request; every failure becomes a sealed answer where none has started yet. */
async function run(
  deps: InvokerDeps,
  head: InvokeHead,
  request: OpenedRequest,
  answer: SealedAnswer,
  gone: AbortSignal,
  times: Timeline,
): Promise<Outcome> {
  let running: ReadyFunction | undefined;
  let end: InvocationEnd | undefined;
  let egress: EgressUse[] = [];
  try {
    deps.refuseReplay(request.encapsulatedKey, request.date);
    if (request.version !== head.version) {
      throw new CfnError(
        'CFN_VERSION_MISMATCH',
        'the request was sealed for another function version than it was routed to',
      );
    }
    running = await deps.functions.ready(head.version);
    times.mark('started');
    const over = await countInvocation(running.models.map(({ count }) => count));
    let session: EgressSession | undefined;
    const { allow } = running.signed.manifest.egress;
    try {
      end = await runIn(
        running,
        head,
        request,
        answer,
        gone,
        (reply) => (session = egressSession(allow, deps.egress, reply)),
        times,
      );
      times.mark('wiped');
    } finally {
      egress = session?.close() ?? [];
      over();
    }
    if (end.code !== undefined) throw new CfnError(end.code, MESSAGES[end.code] ?? 'the invocation failed');
    if (gone.aborted) throw new CfnError('CFN_ABORTED', 'the caller went away');
    await whole(request, gone); // an answer to half a request is none
    return { outcome: 'ok', end, models: running.models, egress };
  } catch (cause) {
    const error = toCfnError(cause);
    const late = setTimeout(() => tooLate.reject(error), UPLOAD_WAIT_MS);
    const tooLate = Promise.withResolvers<never>();
    const broken = await Promise.race([whole(request, gone), tooLate.promise]).catch(toCfnError);
    clearTimeout(late);
    if (broken === undefined) {
      await answer.writeProblem(error);
      return { outcome: error.code, end, models: running?.models, egress };
    }
    answer.cut();
    return {
      outcome: broken.code,
      end,
      models: running?.models,
      egress,
      ...(answer.plainBytes() === 0 ? { refusal: broken } : {}),
    };
  }
}

/** Resolves when the rest of the request has come and was overwritten: the receipt speaks of all of it. */
async function whole(request: OpenedRequest, gone: AbortSignal): Promise<void> {
  if (request.rest === undefined) return;
  const left = new Promise<never>((_, reject) => {
    const leave = (): void => reject(new CfnError('CFN_ABORTED', 'the caller went away'));
    if (gone.aborted) leave();
    gone.addEventListener('abort', leave, { once: true });
  });
  await Promise.race([request.drain(), left]);
}

async function runIn(
  { sandbox, signed }: ReadyFunction,
  head: InvokeHead,
  request: OpenedRequest,
  answer: SealedAnswer,
  gone: AbortSignal,
  egress: InvocationRequest['egress'],
  times: Timeline,
): Promise<InvocationEnd> {
  const { limits } = signed.manifest;
  const { message, rest } = request;
  const bytesMax = encodedResponseBytesMax(bodyLimits(limits).responseBytesMax);
  const wallMs = Math.min(limits.wallMs, head.deadlineMs || limits.wallMs);
  const abort = (): void => sandbox.abort(head.requestId, 'CFN_ABORTED');
  gone.addEventListener('abort', abort, { once: true });
  if (gone.aborted) throw new CfnError('CFN_ABORTED', 'the caller went away');
  try {
    return await sandbox.invoke(head.requestId, { message, rest, wallMs, egress }, async (piece, status) => {
      times.mark('answered');
      if (request.broken()) return void piece.fill(0); // what a function makes of half a request is no answer
      if (answer.plainBytes() + piece.length <= bytesMax) return answer.write(piece, status);
      piece.fill(0);
      sandbox.abort(head.requestId, 'CFN_LIMIT_RESPONSE'); // the sandbox keeps the exact limit, unless it is not itself any more
    });
  } finally {
    gone.removeEventListener('abort', abort);
  }
}

/** What a caller reads; nothing in it comes from the function. */
const MESSAGES: Partial<Record<ErrorCode, string>> = {
  CFN_FUNCTION_THREW: 'the function threw an error',
  CFN_FUNCTION_NO_RESPONSE: 'the handler returned no Response',
  CFN_LIMIT_CPU: 'the function used up its CPU time',
  CFN_LIMIT_WALL: 'the function took too long',
  CFN_LIMIT_MEMORY: 'the function used up its memory',
  CFN_LIMIT_RESPONSE: 'the answer is larger than limits.response_mb',
  CFN_BODY_TOO_LARGE: 'the request body is larger than limits.request_mb',
  CFN_SANDBOX_LOST: 'the sandbox process ended during the invocation',
  CFN_ENGINE_LOST: 'the engine process ended during the invocation',
  CFN_ABORTED: 'the caller went away',
};

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
  const { requestId, version, deadlineMs, trace } = head;
  return { requestId, version, deadlineMs: deadlineMs ?? 0, trace: trace === true };
}

async function* chunks(parts: AsyncIterator<InvokeRequest>): AsyncGenerator<Uint8Array> {
  for (let part = await parts.next(); part.done !== true; part = await parts.next()) {
    if (part.value.chunk === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', 'only chunks may follow the head');
    yield part.value.chunk;
  }
}
