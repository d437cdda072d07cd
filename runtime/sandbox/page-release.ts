import koffi from 'koffi';

/** Hurries V8 to give back memory. */
export interface PageRelease {
  /** So many isolates were disposed, or are being disposed by their threads: looks for V8's tasks now and for some time. */
  hurry(isolates: number): void;
  /** Resolves when the pages of all those are given back; after some time in any case. */
  settled(): Promise<void>;
}

const UV_TIMER = 13;
/** Timers that are due sooner are left alone, in ms. */
const SOON_MS = 5;
/** V8 delays the release of pages by 8,000 ms; a timer with so much left to go, in ms, is one of its tasks. */
const RELEASE_MS = [7_000, 8_000] as const;
/** How far two readings of one timer's end may be apart, in ms: the event loop's clock moves in steps. */
const SAME_MS = 25;
/** A thread may take this long to tear an isolate down, in ms. */
const LOOK_MS_MAX = 512;
const SETTLE_MS_MAX = 250;

/**
 * Has V8 give the pages of disposed isolates back to the system at once.
 *
 * V8 keeps them, as they are, for the next isolates, and releases them by a task that it delays by 8 seconds, on the main isolate
 * (`PagePool::ReleaseOnTearDown`). Node runs such tasks by timers of its event loop, so those are made due now. This takes only public
 * functions of libuv, which the node program exports. Node's own timer is among them: it sees that nothing is due, and waits again.
 *
 * V8's `MemoryReducer` delays a task of its own by 8,100 ms. It is left alone, for once hurried it collects garbage and comes again, without
 * end. Where it is first seen late, it is taken for a release, and pages can be given back after `settled`.
 *
 * @param onLate that was so, or may have been: isolates made meanwhile can have been given such pages
 */
export function pageRelease(onLate: () => void): PageRelease {
  const node = koffi.load(null);
  const loop: unknown = node.func('void *uv_default_loop(void)')();
  const typeOf = node.func('int uv_handle_get_type(void *handle)');
  const dueIn = node.func('uint64_t uv_timer_get_due_in(void *timer)');
  const setRepeat = node.func('void uv_timer_set_repeat(void *timer, uint64_t ms)');
  const again = node.func('int uv_timer_again(void *timer)');
  const walk = node.func('void uv_walk(void *loop, void *visit, void *arg)');
  let awaited = 0;
  let late = false;
  let timer: NodeJS.Timeout | undefined;
  /** Timers that are no releases: by address, when they end. */
  const others = new Map<bigint, number>();
  const visit = koffi.register(
    (handle: unknown) => {
      if (typeOf(handle) !== UV_TIMER) return;
      const dueMs = Number(dueIn(handle));
      if (dueMs < SOON_MS) return;
      const [address, end] = [koffi.address(handle), performance.now() + dueMs];
      if (dueMs > RELEASE_MS[1]) others.set(address, end);
      if (Math.abs((others.get(address) ?? 0) - end) < SAME_MS) return;
      if (dueMs > RELEASE_MS[0] && --awaited < 0) late = true;
      setRepeat(handle, 1);
      again(handle); // starts it anew, to be due when the time of `repeat` is over
      setRepeat(handle, 0);
    },
    koffi.pointer(koffi.proto('void CfnVisitHandle(void *handle, void *arg)')),
  );

  const look = (delayMs: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      walk(loop, visit, null);
      for (const [address, end] of others) if (end < performance.now()) others.delete(address);
      if (late) onLate();
      late = false;
      if (delayMs < LOOK_MS_MAX) look(delayMs * 2);
    }, delayMs).unref();
  };
  return {
    hurry(isolates) {
      awaited = Math.max(0, awaited) + isolates;
      look(1);
    },
    async settled() {
      for (let waitedMs = 0; awaited > 0 && waitedMs < SETTLE_MS_MAX; waitedMs += 2) {
        await sleep(2);
        walk(loop, visit, null);
      }
      awaited = 0;
      await sleep(2); // what was made due runs
    },
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
