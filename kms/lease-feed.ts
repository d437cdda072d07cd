import { CfnError, LEASE_BEAT_MS, utf8, type LeaseEvent } from '../proto/index.ts';
import { proveAnswer } from '../proto/node.ts';
import { FEED_LINES_WAITING_MAX, FEEDS_MAX, FEEDS_PER_WORKER_MAX } from './limits.ts';
import type { EndedEarly } from './store.ts';

/** Tells workers at once which of their leases end before their time, each over a stream that it keeps open. */
export interface LeaseFeed {
  /**
   * Lines for one worker, until either side closes. Of a worker's streams the newest are kept: it may have lost sight of the others.
   *
   * @param answerKey proves each line; taken over
   * @throws {CfnError} `CFN_BUSY` when there are too many
   */
  open(worker: string, answerKey: Uint8Array): ReadableStream<Uint8Array>;
  tell(lease: EndedEarly): void;
  close(): void;
}

interface Stream {
  readonly lines: ReadableStream<Uint8Array>;
  send(event: Omit<LeaseEvent, 'n'>): void;
  end(): void;
}

export function openLeaseFeed(now: () => Date): LeaseFeed {
  /** By worker, oldest first. */
  const streams = new Map<string, readonly Stream[]>();
  const all = (): readonly Stream[] => [...streams.values()].flat();
  const of = (worker: string): readonly Stream[] => streams.get(worker) ?? [];
  const beats = setInterval(() => all().forEach((stream) => stream.send({})), LEASE_BEAT_MS);
  beats.unref();

  return {
    open(worker, answerKey) {
      const present = of(worker);
      for (const old of present.slice(0, Math.max(0, present.length + 1 - FEEDS_PER_WORKER_MAX))) old.end();
      if (all().length >= FEEDS_MAX) throw new CfnError('CFN_BUSY', `${FEEDS_MAX} streams of lease events are open`);
      const stream = openStream(answerKey, () => {
        const left = of(worker).filter((other) => other !== stream);
        if (left.length === 0) streams.delete(worker);
        else streams.set(worker, left);
      });
      streams.set(worker, [...of(worker), stream]);
      stream.send({});
      return stream.lines;
    },
    tell({ id, worker, endsAt, revokedAt }) {
      const remainingMs = revokedAt === undefined ? Math.max(0, endsAt - now().getTime()) : 0;
      for (const stream of of(worker)) stream.send({ lease: id, remainingMs });
    },
    close() {
      clearInterval(beats);
      for (const stream of all()) stream.end();
    },
  };
}

function openStream(answerKey: Uint8Array, onEnd: () => void): Stream {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let n = 0;
  const ended = (): void => {
    if (controller === undefined) return;
    controller = undefined;
    answerKey.fill(0);
    onEnd();
  };
  const end = (): void => {
    controller?.close();
    ended();
  };
  const lines = new ReadableStream<Uint8Array>(
    { start: (opened) => void (controller = opened), cancel: ended },
    { highWaterMark: FEED_LINES_WAITING_MAX },
  );
  return {
    lines,
    end,
    send(event) {
      if (controller === undefined) return;
      if ((controller.desiredSize ?? 0) <= 0) return end(); // it does not read
      const line = JSON.stringify({ n: n++, ...event } satisfies LeaseEvent);
      controller.enqueue(utf8(`${proveAnswer(answerKey, line)} ${line}\n`));
    },
  };
}
