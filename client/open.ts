import {
  CfnError,
  createResponseDecoder,
  type ChunkOpener,
  type Receipt,
  type RequestSealer,
  type ResponseDecoder,
  type ResponseEvent,
} from '../proto/index.ts';
import { verifyReceiptAgainst, type ReceiptExpectations, type VerifiedReceipt } from './receipt-check.ts';

export interface OpenedResponse {
  readonly status: number;
  readonly headers: [string, string][];
  /**
   * The content. May be read once. Throws `CFN_RESPONSE_TRUNCATED` when the answer was cut, `CFN_RESPONSE_MALFORMED` when it was
   * altered, and `CFN_RECEIPT_INVALID` after the last byte when the receipt does not hold: only its normal end means a whole answer.
   */
  readonly body: AsyncIterable<Uint8Array>;
  /** Resolves once `body` was read to its end; rejects with what `body` throws. */
  readonly receipt: Promise<VerifiedReceipt>;
}

interface Exchange {
  readonly sealer: RequestSealer;
  readonly response: AsyncIterable<Uint8Array>;
  readonly responseBytesMax: number;
  readonly expected: Pick<ReceiptExpectations, 'workerKeys' | 'workerId' | 'version'>;
  /** Digest and length of the sealed request; undefined while it is not sent whole. */
  readonly sentRequest: () => Receipt['request'] | undefined;
  readonly hash: { update(bytes: Uint8Array): void; finish(): Promise<Receipt['request']> };
}

/** Opens a sealed answer as it comes. Resolves with the head; content and receipt follow. */
export async function openExchange({
  sealer,
  response,
  expected,
  responseBytesMax,
  sentRequest,
  hash,
}: Exchange): Promise<OpenedResponse> {
  const opener = await sealer.createResponseOpener({ onSealed: (bytes) => hash.update(bytes) });
  const events = readEvents(response, opener, createResponseDecoder(responseBytesMax));
  const head = await readHead(events);
  const receipt = Promise.withResolvers<VerifiedReceipt>();
  receipt.promise.catch(() => undefined); // `body` throws the same; who reads only that has handled it
  let started = false;

  async function checkReceipt(trailers: readonly [string, string][]): Promise<VerifiedReceipt> {
    const found = trailers.filter(([name]) => name === 'cfn-receipt');
    const [field] = found;
    if (field === undefined || found.length > 1)
      throw new CfnError('CFN_RECEIPT_INVALID', `the answer carries ${found.length} receipts, expected 1`);
    const request = sentRequest();
    if (request === undefined)
      throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt came before the request was sent whole');
    return verifyReceiptAgainst({
      ...expected,
      jws: field[1],
      request,
      response: { ...(await hash.finish()), status: head.status },
    });
  }
  async function* body(): AsyncGenerator<Uint8Array> {
    if (started) throw new CfnError('CFN_INTERNAL', 'the body of an answer is read once');
    started = true;
    let whole = false;
    try {
      for await (const event of events) {
        if (event.type === 'content') yield event.bytes;
        else if (event.type === 'trailers') receipt.resolve(await checkReceipt(event.trailers));
      }
      whole = true;
    } catch (error) {
      receipt.reject(error);
      throw error;
    } finally {
      // A reader that stops early never gets a receipt; after the rejection above this does nothing.
      if (!whole) receipt.reject(new CfnError('CFN_ABORTED', 'the answer was not read to its end'));
    }
  }
  return {
    status: head.status,
    headers: head.headers,
    body: { [Symbol.asyncIterator]: body },
    receipt: receipt.promise,
  };
}

async function readHead(events: AsyncGenerator<ResponseEvent>): Promise<Extract<ResponseEvent, { type: 'head' }>> {
  for (;;) {
    const { done, value } = await events.next();
    if (done === true) throw new CfnError('CFN_RESPONSE_TRUNCATED', 'the answer has no head');
    if (value.type === 'head') return value; // informational responses have no meaning here
  }
}

/**
 * Binary HTTP events of the sealed answer. The receipt's digest covers all but the final chunk, so that one may hold the trailer
 * section and nothing else: content there would be content that no receipt speaks of.
 */
async function* readEvents(
  response: AsyncIterable<Uint8Array>,
  opener: ChunkOpener,
  decoder: ResponseDecoder,
): AsyncGenerator<ResponseEvent, undefined> {
  for await (const sealed of response) {
    for (const piece of await opener.push(sealed)) {
      for (const event of decoder.push(piece)) {
        if (event.type === 'trailers')
          throw new CfnError('CFN_RESPONSE_MALFORMED', 'the trailer section comes before the final chunk');
        yield event;
      }
    }
  }
  const last = await opener.end();
  const events = [...last.flatMap((piece) => decoder.push(piece)), ...decoder.end()];
  if (events.some((event) => event.type !== 'trailers'))
    throw new CfnError('CFN_RESPONSE_MALFORMED', 'the final chunk holds more than the trailer section');
  yield* events;
}
