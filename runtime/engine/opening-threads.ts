import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { arrived, digestFiles, openSegments, stop, type Opening } from './opening.ts';

/** More are of no use: two of them are as fast as memory is. */
const THREADS_MAX = 4;

export interface ThreadData {
  readonly task: 'open' | 'digest';
  readonly opening: Opening;
}
export type ThreadResult =
  | { readonly task: 'open'; readonly refused: Place | undefined }
  | { readonly task: 'digest'; readonly digests: readonly string[] | undefined };
interface Place {
  readonly file: number;
  readonly segment: number;
}

/** How a package that is being opened comes out. */
export type Outcome =
  | { readonly refused: Place }
  | { readonly failed: Error }
  /** SHA-256 of each file's plaintext. Every segment is open. */
  | { readonly digests: readonly string[] };

/** Those who open a package while its ciphertext comes. */
export interface Openers {
  /** So many segments have their ciphertext in place, from the first on. */
  arrived(segments: number): void;
  readonly outcome: Promise<Outcome>;
  /** Resolves when nobody touches the package's memory or its key any more. */
  stop(): Promise<void>;
}

/** Opens on threads: `open` of them, and one for the digests, which have to be taken in order. */
export function openingThreads(opening: Opening, threads = Math.min(THREADS_MAX, availableParallelism())): Openers {
  const { promise: outcome, resolve } = Promise.withResolvers<Outcome>();
  const tasks: ThreadData['task'][] = [...Array.from({ length: threads }, () => 'open' as const), 'digest'];
  const ended = tasks.map(
    (task) =>
      new Promise<void>((gone) => {
        const thread = new Worker(new URL('opening-thread.ts', import.meta.url), {
          workerData: { task, opening } satisfies ThreadData,
          env: {},
        });
        thread.on('message', (result: ThreadResult) => {
          if (result.task === 'open' && result.refused !== undefined) resolve({ refused: result.refused });
          if (result.task === 'digest' && result.digests !== undefined) resolve({ digests: result.digests });
        });
        thread.on('error', (failed) => resolve({ failed }));
        thread.on('exit', () => gone());
      }),
  );
  return {
    arrived: (segments) => arrived(opening, segments),
    outcome,
    async stop() {
      stop(opening);
      await Promise.all(ended);
    },
  };
}

/** Opens on this thread, once all is there: for packages so small that starting threads takes longer. */
export function openingHere(opening: Opening): Openers {
  const { promise: outcome, resolve } = Promise.withResolvers<Outcome>();
  return {
    arrived(segments) {
      arrived(opening, segments);
      if (segments < opening.states.length) return;
      const refused = openSegments(opening);
      resolve(refused === undefined ? { digests: digestFiles(opening) ?? [] } : { refused });
    },
    outcome,
    stop: () => Promise.resolve(stop(opening)),
  };
}
