import {
  BODY_WINDOW_BYTES,
  CfnError,
  createRequestOpener,
  createRequestSplitter,
  fromUtf8,
  scanRequestFields,
  sealedRequestBytesMax,
  toCfnError,
  type OhttpKeys,
  type RequestEvent,
  type ResponseSealer,
} from '../../proto/index.ts';
import type { SealedBytes } from './sealed-bytes.ts';

/** A sealed request, opened as far as its head. The plaintext stays bytes: the agent makes no string of anything but the two fields it needs. */
export interface OpenedRequest {
  readonly encapsulatedKey: Uint8Array;
  /** Binary HTTP: whole, or the head alone where there is a `rest`. */
  readonly message: readonly Uint8Array[];
  /**
   * The content, where it is still coming. Its end is authenticated: it throws {@link CfnError} when the request is cut, altered or
   * too large. What it gives is overwritten at the next call.
   */
  readonly rest: AsyncIterator<readonly Uint8Array[]> | undefined;
  /** The function version that the caller sealed for. */
  readonly version: string;
  readonly date: Date;
  responseSealer(): Promise<ResponseSealer>;
  /** Takes what nobody took of `rest`, and overwrites it. @throws {CfnError} as `rest` does, also when it did so before */
  drain(): Promise<void>;
  /** `rest` has failed. */
  broken(): boolean;
  /** Overwrites the plaintext it holds; returns how many bytes were overwritten so far. */
  wipe(): number;
}

/**
 * Opens a sealed request until its head is known, and its content, too, where that is short.
 *
 * @param bodyBytesMax largest content
 * @throws {CfnError} `CFN_REQUEST_MALFORMED`, `CFN_KEY_CONFIG_STALE`, `CFN_BODY_TOO_LARGE`; what was opened by then is overwritten
 */
export async function openRequest(
  keys: readonly OhttpKeys[],
  sealed: SealedBytes,
  bodyBytesMax: number,
): Promise<OpenedRequest> {
  const sealedBytesMax = sealedRequestBytesMax(bodyBytesMax);
  const opener = createRequestOpener(...keys);
  const splitter = createRequestSplitter(bodyBytesMax);
  /** Opened, and not overwritten yet. */
  let held: Uint8Array[] = [];
  let ended = false;
  let bytesOverwritten = 0;
  let failure: CfnError | undefined;

  /** The plaintext that the next sealed bytes complete. */
  async function take(): Promise<Uint8Array[]> {
    const { done, value: bytes } = await sealed.next();
    let opened: Uint8Array[];
    if (done === true) {
      ended = true;
      opened = await opener.end();
    } else {
      if (sealed.bytes() > sealedBytesMax)
        throw new CfnError('CFN_BODY_TOO_LARGE', `the sealed request is over ${sealedBytesMax} bytes`);
      opened = await opener.push(bytes);
    }
    held.push(...opened);
    return opened;
  }
  function wipe(): number {
    for (const piece of held) {
      piece.fill(0);
      bytesOverwritten += piece.length;
    }
    held = [];
    splitter.wipe();
    return bytesOverwritten;
  }
  async function* content(first: readonly Uint8Array[]): AsyncGenerator<readonly Uint8Array[], undefined> {
    try {
      if (first.length > 0) yield first;
      for (;;) {
        wipe();
        const events = split(await take());
        const pieces = contentOf(events);
        if (pieces.length > 0) yield pieces;
        if (ended) break;
      }
    } catch (error) {
      failure = toCfnError(error);
      throw failure;
    } finally {
      wipe();
    }
  }
  const split = (pieces: readonly Uint8Array[]): RequestEvent[] => [
    ...pieces.flatMap((piece) => splitter.push(piece)),
    ...(ended ? splitter.end() : []),
  ];

  try {
    let head: Extract<RequestEvent, { type: 'head' }> | undefined;
    const first: Uint8Array[] = [];
    let streamed = false;
    while (!ended && !streamed) {
      const opened = await take();
      if (ended && held.length === 1) break; // the usual case: all of it in the final chunk
      const events = split(opened);
      head ??= events.find((event) => event.type === 'head');
      first.push(...contentOf(events));
      const heldBytes = held.reduce((sum, piece) => sum + piece.length, 0); // padding has no length to go by
      const large = (head?.contentBytes ?? Infinity) > BODY_WINDOW_BYTES || heldBytes > 2 * BODY_WINDOW_BYTES;
      streamed = !ended && head !== undefined && large;
    }
    const headBytes = head?.bytes ?? held[0] ?? new Uint8Array(0);
    const { version, date } = controlFields(headBytes);
    const rest = streamed ? content(first) : undefined;
    if (head !== undefined) held.push(head.bytes);
    return {
      encapsulatedKey: opener.encapsulatedKey(),
      message: streamed ? [headBytes] : held.filter((piece) => piece !== head?.bytes),
      rest,
      version,
      date,
      responseSealer: () => opener.createResponseSealer(),
      async drain() {
        while (rest !== undefined && (await rest.next()).done !== true);
        if (failure !== undefined) throw failure;
      },
      broken: () => failure !== undefined,
      wipe,
    };
  } catch (error) {
    wipe();
    throw error;
  }
}

const contentOf = (events: readonly RequestEvent[]): Uint8Array[] =>
  events.flatMap((event) => (event.type === 'content' ? [event.bytes] : []));

const VERSION_FIELD = 'cfn-function-version';

function controlFields(head: Uint8Array): { version: string; date: Date } {
  const fields = scanRequestFields(head, [VERSION_FIELD, 'date']);
  const text = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', `the sealed request has no ${name} field`);
    return fromUtf8(value, 'CFN_REQUEST_MALFORMED');
  };
  const version = text(VERSION_FIELD);
  const date = new Date(text('date'));
  if (!/^[0-9a-f]{64}$/.test(version) || Number.isNaN(date.getTime())) {
    throw new CfnError('CFN_REQUEST_MALFORMED', 'the sealed request has an ill-formed version or date');
  }
  return { version, date };
}
