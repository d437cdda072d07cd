import { setTimeout as sleep } from 'node:timers/promises';
import { appraisalEar, appraise, type AppraisalPolicy, type ResultSigner } from '../attestation/verifier/index.ts';
import { CfnError, toCfnError, toHex, type ErrorCode } from '../proto/index.ts';
import { ADMISSION_BACKOFF_MS } from './limits.ts';
import type { Log } from './log.ts';
import type { ReceiptFeeds } from './receipt-feed.ts';
import type { AdmittedWorker, Registry } from './registry.ts';
import type { Store } from './store/index.ts';
import type { Connect, WorkerConnection } from './worker-connection.ts';

export interface AdmissionDependencies {
  readonly connect: Connect;
  /** The operator's policy: what a worker must show to get any request at all. */
  readonly policy: AppraisalPolicy;
  /** Signs what came of an appraisal, for relying parties that take the gateway's word. */
  readonly resultSigner: ResultSigner;
  readonly registry: Registry;
  readonly store: Pick<Store, 'addEvidence'>;
  /** Who is admitted is asked for receipts, too. */
  readonly feeds: Pick<ReceiptFeeds, 'follow' | 'leave'>;
  readonly leaseMs: number;
  readonly now: () => Date;
  /** The clock of {@link Registry}. */
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
  /** Told of every outcome: `ok`, or the code of the refusal. */
  readonly onOutcome: (outcome: 'ok' | ErrorCode) => void;
}

export interface Admission {
  /** Challenges the worker at the address now, and keeps challenging it. @throws {CfnError} the refusal */
  admit(address: string): Promise<AdmittedWorker>;
  /** Keeps trying an address, with backoff, until {@link Admission.forget} or {@link Admission.stop}. */
  keep(address: string): void;
  /** Challenges an admitted worker at once, because a call to it failed. */
  suspect(workerId: string): void;
  /** Takes the worker with this id, or at this address, out; tries no address of it any more, and gives those. */
  forget(idOrAddress: string): string[];
  /** The channel on which the worker was admitted. */
  connection(workerId: string): WorkerConnection | undefined;
  stop(): Promise<void>;
}

/** One address that is watched. */
interface Watch {
  readonly address: string;
  readonly stopped: AbortController;
  connection: WorkerConnection | undefined;
  workerId: string | undefined;
  challenging: Promise<AdmittedWorker> | undefined;
  wake: AbortController;
  loop: Promise<void> | undefined;
}

/** Life of a worker at the gateway (design §4): nonce, evidence, appraisal, lease, and again at half the lease. */
export function admission(deps: AdmissionDependencies): Admission {
  const { registry, leaseMs, now, monotonicMs, log } = deps;
  const watches = new Map<string, Watch>();
  const connections = new Map<string, WorkerConnection>();
  /** More than one where a worker was added under two names of its address. */
  const watchesOf = (workerId: string): Watch[] => [...watches.values()].filter((watch) => watch.workerId === workerId);

  /** A connection whose session ends takes its worker out at once: only new evidence, of a new session, brings it back. */
  async function connect(watch: Watch): Promise<WorkerConnection> {
    const connection = await deps.connect(watch.address);
    void connection.ended.then(() => {
      if (watch.connection !== connection) return;
      drop(watch);
      watch.wake.abort();
    });
    return connection;
  }

  async function challenge(watch: Watch): Promise<AdmittedWorker> {
    const connection = (watch.connection ??= await connect(watch));
    // The lease counts from before the question: a slow answer does not stretch it.
    const [askedAt, askedMs] = [now(), monotonicMs()];
    const { evidence, nonce } = await connection.evidence(deps.randomBytes(32), true);
    const result = await appraise(evidence, { nonce, policy: deps.policy, now: now() });
    if (result.workerKeys.tls.spki !== connection.spki) {
      throw new CfnError('CFN_CHANNEL_MISMATCH', 'the evidence binds another TLS key than the one of the connection');
    }
    await deps.store.addEvidence(result.evidenceDigest, JSON.stringify(evidence));
    const heldMs = Math.min(leaseMs, Date.parse(result.workerKeys.notAfter) - askedAt.getTime());
    const leaseEndsAt = new Date(askedAt.getTime() + heldMs);
    const { workerId, evidenceDigest, claims, binding } = result;
    const ear = await appraisalEar(
      {
        findings: result.findings,
        claims: { ...claims, binding, workerId, evidence: evidenceDigest },
        policy: deps.policy,
        nonce,
        isOfWorker: true,
        now: askedAt,
        endsAt: leaseEndsAt,
      },
      deps.resultSigner,
    );
    if (watch.stopped.signal.aborted) throw new CfnError('CFN_ABORTED', 'the address is no longer watched');
    // Its session ended meanwhile, and the evidence is of no other.
    if (watch.connection !== connection) throw new CfnError('CFN_WORKER_LOST', 'the worker went away');
    if (watch.workerId !== undefined && watch.workerId !== result.workerId) takeOut(watch.workerId);
    const worker: AdmittedWorker = {
      workerId,
      address: watch.address,
      tee: result.tee,
      simulated: result.simulated,
      keys: result.workerKeys,
      evidence,
      evidenceDigest,
      nonce: toHex(nonce),
      result: ear,
      admittedAt: askedAt,
      leaseEndsAt,
      leaseEndsMs: askedMs + heldMs,
    };
    if (watch.workerId === undefined)
      log('worker.admitted', { worker: worker.workerId, address: watch.address, tee: worker.tee });
    watch.workerId = worker.workerId;
    connections.set(worker.workerId, connection);
    registry.admit(worker);
    deps.feeds.follow(worker, connection);
    return worker;
  }

  function takeOut(workerId: string): void {
    registry.remove(workerId);
    deps.feeds.leave(workerId);
    connections.delete(workerId);
  }

  function drop(watch: Watch): void {
    if (watch.workerId !== undefined) takeOut(watch.workerId);
    watch.workerId = undefined;
    watch.connection?.close();
    watch.connection = undefined;
  }

  /** One challenge at a time per address. Records the outcome, and takes out who fails. */
  function challengeOnce(watch: Watch): Promise<AdmittedWorker> {
    watch.challenging ??= challenge(watch)
      .then(
        (worker) => {
          deps.onOutcome('ok');
          return worker;
        },
        (cause: unknown) => {
          const error = toCfnError(cause);
          deps.onOutcome(error.code);
          log('worker.refused', { address: watch.address, code: error.code, detail: error.message.slice(0, 300) });
          // Silence ends with the lease, which may bridge one slow quote, or a disk that is full here. Everything else ends now.
          const onlySilent =
            ['CFN_DEADLINE', 'CFN_STORE_FAILED'].includes(error.code) &&
            watch.workerId !== undefined &&
            registry.get(watch.workerId) !== undefined;
          if (!onlySilent) drop(watch);
          throw error;
        },
      )
      .finally(() => (watch.challenging = undefined));
    return watch.challenging;
  }

  async function keepChallenging(watch: Watch, firstWaitMs: number): Promise<void> {
    let waitMs = firstWaitMs;
    let backoffMs: number = ADMISSION_BACKOFF_MS.first;
    let challengedMs = -Infinity;
    while (!watch.stopped.signal.aborted) {
      const { signal } = watch.wake;
      if (waitMs > 0) await sleep(waitMs, undefined, { signal, ref: false }).catch(() => {});
      // However often it is woken: else one who cuts sessions, or calls that fail, would keep gateway and worker busy.
      const tooSoonMs = challengedMs + ADMISSION_BACKOFF_MS.first - monotonicMs();
      if (tooSoonMs > 0)
        await sleep(tooSoonMs, undefined, { signal: watch.stopped.signal, ref: false }).catch(() => {});
      if (watch.stopped.signal.aborted) return;
      if (signal.aborted) watch.wake = new AbortController();
      challengedMs = monotonicMs();
      try {
        await challengeOnce(watch);
        waitMs = leaseMs / 2;
        backoffMs = ADMISSION_BACKOFF_MS.first;
      } catch {
        waitMs = backoffMs;
        backoffMs = Math.min(backoffMs * 2, ADMISSION_BACKOFF_MS.max);
      }
    }
  }

  function watchAddress(address: string): Watch {
    const made: Watch = {
      address,
      stopped: new AbortController(),
      connection: undefined,
      workerId: undefined,
      challenging: undefined,
      wake: new AbortController(),
      loop: undefined,
    };
    watches.set(address, made);
    return made;
  }

  function unwatch(watch: Watch): void {
    watches.delete(watch.address);
    watch.stopped.abort();
    watch.wake.abort();
    drop(watch);
  }

  return {
    async admit(address) {
      const watch = watches.get(address) ?? watchAddress(address);
      try {
        const worker = await challengeOnce(watch);
        watch.loop ??= keepChallenging(watch, leaseMs / 2);
        return worker;
      } catch (cause) {
        if (watch.loop === undefined) unwatch(watch);
        throw cause;
      }
    },
    keep(address) {
      const watch = watches.get(address) ?? watchAddress(address);
      watch.loop ??= keepChallenging(watch, 0);
    },
    suspect: (workerId) => watchesOf(workerId).forEach((watch) => watch.wake.abort()),
    forget(idOrAddress) {
      const known = watches.get(idOrAddress);
      const gone = known === undefined ? watchesOf(idOrAddress) : [known];
      for (const watch of gone) unwatch(watch);
      return gone.map(({ address }) => address);
    },
    connection: (workerId) => connections.get(workerId),
    async stop() {
      const stopping = [...watches.values()];
      for (const watch of stopping) unwatch(watch);
      for (const { loop } of stopping) await loop;
    },
  };
}
