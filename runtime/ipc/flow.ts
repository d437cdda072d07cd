/** The sender's side of a body between two processes: how many bytes may still be on their way. */
export interface Window {
  /** `undefined`: there is room now. Otherwise resolves when there is, or when the window closes. */
  room(): Promise<void> | undefined;
  spend(bytes: number): void;
  /** The receiver has used so many. */
  add(bytes: number): void;
  /** Nobody waits any more. */
  close(): void;
}

/** No import here: it is bundled into isolates, too. */
export function openWindow(bytes: number): Window {
  let left = bytes;
  let closed = false;
  let waiting: PromiseWithResolvers<void> | undefined;
  const wake = (): void => {
    waiting?.resolve();
    waiting = undefined;
  };
  return {
    room() {
      if (left > 0 || closed) return undefined;
      return (waiting ??= Promise.withResolvers<void>()).promise;
    },
    spend: (spent) => void (left -= spent),
    add(credit) {
      left += credit;
      if (left > 0) wake();
    },
    close() {
      closed = true;
      wake();
    },
  };
}

/** The receiver's side: tells the sender what was used, a good part of the window at a time. A small body costs no message. */
export function crediting(windowBytes: number, grant: (bytes: number) => void): (used: number) => void {
  let owed = 0;
  return (used) => {
    owed += used;
    if (owed < windowBytes / 4) return;
    grant(owed);
    owed = 0;
  };
}
