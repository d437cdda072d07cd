import { CfnError, concatBytes, fromUtf8 } from '../proto/index.ts';

/** @throws {CfnError} `CFN_GATEWAY_UNREACHABLE`; or the reason of the caller's own signal, when that ended it */
export async function send(request: () => Promise<Response>, signal?: AbortSignal | null): Promise<Response> {
  try {
    return await request();
  } catch (cause) {
    if (signal?.aborted === true) throw signal.reason;
    throw unreachable(cause);
  }
}
const unreachable = (cause: unknown): CfnError =>
  new CfnError('CFN_GATEWAY_UNREACHABLE', 'the gateway did not answer, or not to the end', { cause });

/** Status and JSON of an answer; `json` is undefined when the body is none. */
export async function readJson(
  request: () => Promise<Response>,
  bytesMax: number,
): Promise<{ status: number; json: unknown }> {
  const response = await send(request);
  return { status: response.status, json: await bodyJson(response, bytesMax) };
}

export async function bodyJson(response: Response, bytesMax: number): Promise<unknown> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of streamChunks(response.body, unreachable)) {
    bytes += piece.length;
    if (bytes > bytesMax)
      throw new CfnError('CFN_GATEWAY_UNREACHABLE', `the gateway's answer is over ${bytesMax} bytes`);
    pieces.push(piece);
  }
  try {
    return JSON.parse(fromUtf8(concatBytes(...pieces))) as unknown;
  } catch {
    return undefined; // not JSON: the caller goes by the status
  }
}

/**
 * The chunks of a stream; by a reader, because not every browser iterates streams.
 *
 * @param broken makes the error for a stream that breaks off; without it the stream's own is thrown
 */
export async function* streamChunks(
  stream: ReadableStream<Uint8Array> | null,
  broken?: (cause: unknown) => unknown,
): AsyncGenerator<Uint8Array> {
  if (stream === null) return;
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (cause) {
    throw broken?.(cause) ?? cause;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** A stream that pulls from an iterable; `ReadableStream.from` is not in every browser. */
export function toStream(iterable: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array<ArrayBuffer>> {
  const iterator = iterable[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done === true) controller.close();
      else controller.enqueue(value as Uint8Array<ArrayBuffer>);
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
