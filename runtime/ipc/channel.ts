import type { Socket } from 'node:net';
import { ownReads } from './owned-socket.ts';
import { CfnError, IPC_HEADER_BYTES_MAX, IPC_PAYLOAD_BYTES_MAX } from '../../proto/index.ts';

/**
 * Frames between the processes of a worker: u32le header length ‖ u32le payload length ‖ header (JSON) ‖ payload.
 * A header holds control data only; whatever belongs to a request travels as payload, in buffers that their holder overwrites.
 */
export interface Frame {
  readonly header: Readonly<Record<string, unknown>> & { readonly op: string };
  /** Owned by the receiver, who overwrites it when done. Has a buffer of its own, at offset 0. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

export interface Channel {
  /** Resolves when the bytes have left this process, so that the sender may overwrite its payloads. */
  send(header: Frame['header'], ...payloads: readonly Uint8Array[]): Promise<void>;
  close(): void;
  /** Stops reading, until `resume`. */
  pause(): void;
  resume(): void;
}

const PREFIX_BYTES = 8;

/**
 * Takes over a connected stream socket and runs frames over it. `onFrame` must not throw; `onClose` is called once, with the reason if
 * there is one.
 *
 * @param preamble bytes that the other end gets before the first frame
 */
export function openChannel(
  given: Socket,
  onFrame: (frame: Frame) => void,
  onClose: (error?: Error) => void,
  preamble?: Uint8Array,
): Channel {
  const assembler = new FrameAssembler(onFrame);
  let failure: Error | undefined;
  const socket = ownReads(given, (bytes) => {
    try {
      assembler.push(bytes);
    } catch (error) {
      failure = error as Error;
      socket.destroy();
    }
  });
  socket.on('error', (error) => (failure ??= error));
  socket.on('close', () => {
    assembler.wipe();
    onClose(failure);
  });
  if (preamble !== undefined) socket.write(preamble);
  return {
    async send(header, ...payloads) {
      const head = Buffer.from(JSON.stringify(header));
      const prefix = Buffer.alloc(PREFIX_BYTES);
      prefix.writeUInt32LE(head.length, 0);
      prefix.writeUInt32LE(
        payloads.reduce((sum, payload) => sum + payload.length, 0),
        4,
      );
      await new Promise<void>((resolve, reject) => {
        const done = (error?: Error | null): void => (error ? reject(error) : resolve());
        socket.cork();
        socket.write(prefix);
        socket.write(head, payloads.length === 0 ? done : undefined);
        payloads.forEach((payload, i) => socket.write(payload, i === payloads.length - 1 ? done : undefined));
        socket.uncork();
      });
    },
    close: () => void socket.destroy(),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
  };
}

/** Puts frames together from whatever pieces the socket gives. */
class FrameAssembler {
  readonly #onFrame: (frame: Frame) => void;
  readonly #prefix = Buffer.alloc(PREFIX_BYTES);
  #prefixFilled = 0;
  #head: Uint8Array<ArrayBuffer> | undefined;
  #headFilled = 0;
  #payload: Uint8Array<ArrayBuffer> | undefined;
  #payloadFilled = 0;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length || this.#complete()) {
      if (this.#head === undefined || this.#payload === undefined) {
        const take = Math.min(PREFIX_BYTES - this.#prefixFilled, chunk.length - at);
        this.#prefix.set(chunk.subarray(at, at + take), this.#prefixFilled);
        this.#prefixFilled += take;
        at += take;
        if (this.#prefixFilled === PREFIX_BYTES) this.#start();
      } else if (this.#headFilled < this.#head.length) {
        const take = Math.min(this.#head.length - this.#headFilled, chunk.length - at);
        this.#head.set(chunk.subarray(at, at + take), this.#headFilled);
        this.#headFilled += take;
        at += take;
      } else if (this.#payloadFilled < this.#payload.length) {
        const take = Math.min(this.#payload.length - this.#payloadFilled, chunk.length - at);
        this.#payload.set(chunk.subarray(at, at + take), this.#payloadFilled);
        this.#payloadFilled += take;
        at += take;
      }
      if (this.#complete()) this.#emit();
    }
  }

  #complete(): boolean {
    return (
      this.#head !== undefined &&
      this.#headFilled === this.#head.length &&
      this.#payloadFilled === this.#payload?.length
    );
  }

  #start(): void {
    const headBytes = this.#prefix.readUInt32LE(0);
    const payloadBytes = this.#prefix.readUInt32LE(4);
    if (headBytes === 0 || headBytes > IPC_HEADER_BYTES_MAX || payloadBytes > IPC_PAYLOAD_BYTES_MAX) {
      throw new CfnError('CFN_INTERNAL', `IPC frame of ${headBytes} + ${payloadBytes} bytes is over the limit`);
    }
    this.#head = new Uint8Array(headBytes);
    this.#payload = new Uint8Array(new ArrayBuffer(payloadBytes)); // small arrays made by length lie in the V8 heap, whose collector leaves copies
    this.#headFilled = this.#payloadFilled = 0;
  }

  #emit(): void {
    const head = this.#head;
    const payload = this.#payload;
    this.#head = this.#payload = undefined;
    this.#prefixFilled = 0;
    if (head === undefined || payload === undefined) return;
    const header: unknown = JSON.parse(Buffer.from(head.buffer).toString('utf8'));
    if (typeof header !== 'object' || header === null || typeof (header as { op?: unknown }).op !== 'string') {
      throw new CfnError('CFN_INTERNAL', 'IPC header has no op');
    }
    this.#onFrame({ header: header as Frame['header'], payload });
  }

  wipe(): void {
    this.#payload?.fill(0);
  }
}
