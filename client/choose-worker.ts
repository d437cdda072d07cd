import type { TrustedWorker } from './trusted-workers.ts';

/** Requests of ours under way, by worker. */
export interface OwnLoad {
  of(workerId: string): number;
  /** Counts one; call what it gives when the request is over. */
  begin(workerId: string): () => void;
}

export function ownLoad(): OwnLoad {
  const counts = new Map<string, number>();
  const add = (workerId: string, change: number): void => {
    const count = (counts.get(workerId) ?? 0) + change;
    if (count === 0) counts.delete(workerId);
    else counts.set(workerId, count);
  };
  return {
    of: (workerId) => counts.get(workerId) ?? 0,
    begin(workerId) {
      add(workerId, 1);
      let under = true;
      return () => {
        if (under) add(workerId, -1);
        under = false;
      };
    },
  };
}

/** The less loaded of two picked at random: many clients with the same old hints do not all run to the same worker. */
export function chooseWorker(
  workers: readonly TrustedWorker[],
  own: OwnLoad,
  random: () => number = randomFraction,
): TrustedWorker | undefined {
  const first = pick(workers, random);
  const second = pick(
    workers.filter((worker) => worker !== first),
    random,
  );
  if (first === undefined || second === undefined) return first;
  return loadOf(second, own) < loadOf(first, own) ? second : first;
}

const loadOf = ({ result, load }: TrustedWorker, own: OwnLoad): number =>
  ((load?.inflight ?? 0) + own.of(result.workerId)) / Math.max(1, load?.capacity ?? 1);

const pick = <T>(list: readonly T[], random: () => number): T | undefined => list[Math.floor(random() * list.length)];

function randomFraction(): number {
  const [roll = 0] = crypto.getRandomValues(new Uint32Array(1));
  return roll / 2 ** 32;
}
