import { CfnError, leaseEventSchema, type LeaseEvent } from '../../proto/index.ts';
import { isProven } from '../../proto/node.ts';

/** Longest line of a stream of lease events, in bytes: proof, number, lease id, and room to spare. */
const LINE_BYTES_MAX = 1024;

/**
 * The events in a stream of lines, in order and none left out.
 *
 * @param mismatch made when a line is not proven by `answerKey`, or is not the next one
 * @throws {CfnError} `CFN_KMS_UNREACHABLE` when the stream breaks off
 */
export async function* readLeaseEvents(
  stream: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  answerKey: Uint8Array,
  mismatch: () => CfnError,
): AsyncGenerator<LeaseEvent> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  let next = 0;
  try {
    for await (const piece of stream) {
      text += decoder.decode(piece, { stream: true });
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        const [proof = ''] = line.split(' ', 1);
        const json = line.slice(proof.length + 1);
        if (!isProven(answerKey, json, proof)) throw mismatch();
        const event = leaseEventSchema.parse(JSON.parse(json));
        if (event.n !== next++) throw mismatch();
        yield event;
      }
      if (text.length > LINE_BYTES_MAX) throw mismatch();
    }
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError('CFN_KMS_UNREACHABLE', 'the stream of lease events broke off', { cause });
  }
}
