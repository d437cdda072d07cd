import type { Evidence, WorkerKeys } from '../proto/index.ts';

/** A worker that passed appraisal, until its lease ends. */
export interface AdmittedWorker {
  readonly workerId: string;
  /** host:port */
  readonly address: string;
  readonly tee: Evidence['tee'];
  readonly simulated: boolean;
  readonly keys: WorkerKeys;
  readonly evidence: Evidence;
  readonly evidenceDigest: string;
  /** The nonce that the evidence answers, hexadecimal. */
  readonly nonce: string;
  /** The appraisal as EAR, signed by this gateway; it ends with the lease. */
  readonly result: string;
  readonly admittedAt: Date;
  /** What others are told of the end of the lease. */
  readonly leaseEndsAt: Date;
  /** When it ends here, in ms on the gateway's monotonic clock: whoever sets the wall clock neither stretches nor ends it. */
  readonly leaseEndsMs: number;
}

/**
 * Who may get requests. Reads are synchronous, because every request makes one: an implementation for a fleet keeps a local
 * view. Losing the registry admits nobody.
 */
export interface Registry {
  /** Enters a worker or renews its lease. A worker that had the same address under another id leaves. */
  admit(worker: AdmittedWorker): void;
  /** Takes a worker out at once. */
  remove(workerId: string): void;
  /** The worker, if its lease holds now. */
  get(workerId: string): AdmittedWorker | undefined;
  /** All workers whose lease holds now. */
  live(): AdmittedWorker[];
}

export function memoryRegistry(monotonicMs: () => number): Registry {
  const workers = new Map<string, AdmittedWorker>();
  const holds = (worker: AdmittedWorker): boolean => monotonicMs() < worker.leaseEndsMs;
  const registry: Registry = {
    admit(worker) {
      for (const other of workers.values()) {
        if (other.address === worker.address && other.workerId !== worker.workerId) workers.delete(other.workerId);
      }
      workers.set(worker.workerId, worker);
    },
    remove(workerId) {
      workers.delete(workerId);
    },
    get(workerId) {
      const worker = workers.get(workerId);
      if (worker === undefined || holds(worker)) return worker;
      workers.delete(workerId);
      return undefined;
    },
    live: () => [...workers.keys()].flatMap((id) => registry.get(id) ?? []),
  };
  return registry;
}
