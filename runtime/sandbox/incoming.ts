import { BODY_WINDOW_BYTES, type ErrorCode } from '../../proto/index.ts';
import { crediting } from '../ipc/flow.ts';

/** Bytes that come for the isolate, kept until it asks: at most a window of them, as the sender gets credit for what was asked for. */
export interface Incoming {
  /** Takes the bytes over. */
  push(bytes: Uint8Array<ArrayBuffer>): void;
  /** No more come; with a code, because something broke off. The first end counts. */
  end(code?: ErrorCode): void;
  /** The isolate wants the next piece, or to be told of the end. */
  pull(): void;
  /** The isolate wants no more: what is here, and what still comes, is overwritten. */
  drop(): void;
}

export interface IncomingDeps {
  readonly deliver: (bytes: ArrayBuffer) => void;
  readonly ended: (code: ErrorCode | undefined) => void;
  readonly credit: (bytes: number) => void;
  readonly wipe: (bytes: Uint8Array) => void;
}

export function incoming({ deliver, ended, credit, wipe }: IncomingDeps): Incoming {
  const queue: Uint8Array<ArrayBuffer>[] = [];
  const used = crediting(BODY_WINDOW_BYTES, credit);
  let end: { readonly code: ErrorCode | undefined } | undefined;
  let wanted = false;
  let dropped = false;

  function serve(): void {
    if (!wanted) return;
    // What breaks off is not given out to its last byte first: nobody should act on it.
    const piece = end?.code === undefined ? queue.shift() : undefined;
    if (piece === undefined && end === undefined) return;
    wanted = false;
    if (piece === undefined) return ended(end?.code);
    const bytes = piece.length;
    deliver(piece.buffer);
    used(bytes);
  }
  return {
    push(bytes) {
      if (bytes.length === 0) return;
      if (dropped) {
        used(bytes.length);
        return wipe(bytes);
      }
      queue.push(bytes);
      serve();
    },
    end(code) {
      end ??= { code };
      serve();
    },
    pull() {
      wanted = true;
      serve();
    },
    drop() {
      dropped = true;
      for (const piece of queue.splice(0)) {
        used(piece.length);
        wipe(piece);
      }
    },
  };
}
