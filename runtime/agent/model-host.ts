import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { BlobStore } from '../../artifacts/index.ts';
import { CfnError, parseModelPackage, toCfnError, type SignedManifest } from '../../proto/index.ts';
import type { EngineProcess, ModelShapes } from './engine-process.ts';
import type { KeyClient } from './key-client.ts';
import type { SpareProcess } from './spare-process.ts';

/** How often a worker asks whether its lease still stands; bounds how late a revocation is noticed. */
const REVOCATION_POLL_MS = 2_000;

/** One function version's use of one model, under a lease of its own. */
export interface ModelUse {
  readonly binding: string;
  readonly model: string;
  readonly digest: string;
  /** Digest of the policy under which the KMS released the key. */
  readonly policy: string;
  readonly socketPath: string;
  readonly shapes: ModelShapes;
  /** Resolves when lease or engine ended, with the reason. */
  readonly ended: Promise<CfnError>;
  release(): void;
}

/** Engines by model: one process per model, for as long as at least one function's lease on it lives. */
export interface ModelHost {
  acquire(binding: string, packageBytes: Uint8Array, manifest: SignedManifest): Promise<ModelUse>;
  close(): void;
  pids(): readonly number[];
}

interface Engine {
  readonly process: EngineProcess;
  readonly shapes: ModelShapes;
  /** Live leases: end on the monotonic clock, ms. */
  readonly leases: Map<string, number>;
  /** Functions that are getting a lease on it: it is not ended under their hands. */
  joining: number;
  /** Takes it off the map, so that the next function starts another. */
  readonly forget: () => void;
}

export interface ModelHostDeps {
  readonly keys: KeyClient;
  readonly blobs: BlobStore;
  readonly spares: SpareProcess<EngineProcess>;
  /** Monotonic, ms: a host that sets the wall clock back does not stretch a lease. */
  readonly monotonicMs: () => number;
  readonly log: (event: string, fields?: Readonly<Record<string, string | number>>) => void;
}

export function modelHost(deps: ModelHostDeps): ModelHost {
  const engines = new Map<string, Promise<Engine>>();
  const live = new Set<EngineProcess>();

  async function acquire(binding: string, packageBytes: Uint8Array, manifest: SignedManifest): Promise<ModelUse> {
    const model = await parseModelPackage(
      packageBytes,
      manifest.manifest.models.find((entry) => entry.binding === binding)?.digest,
    );
    const subject = { model: model.digest, functionManifest: manifest.jws };
    for (let known = engines.get(model.digest); known !== undefined; known = engines.get(model.digest)) {
      const running = await known.catch(() => undefined);
      if (running === undefined) continue; // it is off the map, or another is being started
      running.joining += 1;
      try {
        const released = await deps.keys.release(model.kms.url, {
          ...subject,
          wrappingKey: running.process.wrappingKey,
        });
        return await hold(running, released);
      } finally {
        running.joining -= 1;
        endUnheld(running);
      }
    }
    return startOne();

    function endUnheld(engine: Engine): void {
      if (engine.leases.size > 0 || engine.joining > 0) return;
      engine.process.kill(); // the weights' memory goes with the process
      engine.forget();
    }

    /** On the map before anything is awaited: whoever comes in the meantime waits for this one. */
    async function startOne(): Promise<ModelUse> {
      const { promise, resolve, reject } = Promise.withResolvers<Engine>();
      promise.catch(() => undefined);
      engines.set(model.digest, promise);
      const forget = (): void => {
        if (engines.get(model.digest) === promise) engines.delete(model.digest);
      };
      let process_: EngineProcess | undefined;
      try {
        const taken = await deps.spares.take();
        process_ = taken;
        live.add(taken);
        void taken.ended.then(() => {
          live.delete(taken);
          forget();
        });
        const released = await deps.keys.release(model.kms.url, { ...subject, wrappingKey: taken.wrappingKey });
        if (released.wrappedKey === undefined) throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS released no key');
        const { wrappedKey, challenge, leaseMs } = released;
        const shapes = await taken.load(
          { digest: model.digest, package: model, packageBytes, wrappedKey, challenge, leaseMs },
          deps.blobs,
        );
        const engine: Engine = { process: taken, shapes, leases: new Map(), joining: 0, forget };
        const use = await hold(engine, released);
        resolve(engine);
        deps.log('model.loaded', { model: model.model, digest: model.digest });
        return use;
      } catch (error) {
        process_?.kill();
        forget();
        reject(error);
        throw error;
      }
    }

    async function hold(
      engine: Engine,
      released: { lease: string; leaseMs: number; policy: string },
    ): Promise<ModelUse> {
      const socketPath = join(engine.process.sockets, `${randomBytes(16).toString('hex')}.sock`);
      await engine.process.listen(socketPath);
      const ended = Promise.withResolvers<CfnError>();
      const state = { lease: released.lease, renewAt: 0, over: false };

      const end = (reason: CfnError): void => {
        if (state.over) return;
        state.over = true;
        clearInterval(timer);
        engine.leases.delete(state.lease);
        endUnheld(engine);
        if (engine.leases.size > 0) void engine.process.unlisten(socketPath).catch(() => undefined);
        deps.log('lease.ended', { model: model.model, code: reason.code });
        void engine.process.ended
          .then(() => deps.keys.reportDropped(model.kms.url, state.lease, reason.code))
          .catch(() => deps.log('lease.drop-unreported', { model: model.model }));
        ended.resolve(reason);
      };
      const extend = (leaseMs: number): void => {
        const now = deps.monotonicMs();
        engine.leases.set(state.lease, now + leaseMs);
        state.renewAt = now + leaseMs / 2;
        const longest = Math.floor(Math.max(...engine.leases.values()) - now);
        void engine.process.setLease(longest).catch(() => undefined);
      };
      const watch = async (): Promise<void> => {
        const now = deps.monotonicMs();
        if (now >= (engine.leases.get(state.lease) ?? 0))
          return end(new CfnError('CFN_LEASE_ENDED', 'the lease was not renewed in time'));
        try {
          if (now < state.renewAt) return await deps.keys.checkLease(model.kms.url, state.lease);
          const renewed = await deps.keys.release(model.kms.url, {
            ...subject,
            wrappingKey: engine.process.wrappingKey,
            renew: state.lease,
          });
          if (!state.over) extend(renewed.leaseMs);
        } catch (error) {
          const refusal = toCfnError(error);
          // A silent KMS does not end a lease before its time; a refusal does.
          if (refusal.fault === 'trust') end(refusal);
        }
      };
      let watching = false;
      const timer = setInterval(
        () => {
          if (watching) return;
          watching = true;
          void watch().finally(() => (watching = false));
        },
        Math.min(REVOCATION_POLL_MS, Math.max(50, released.leaseMs / 8)),
      );
      // The lease's own end must not wait for a poll that hangs.
      const guard = setInterval(() => {
        if (state.over) return clearInterval(guard);
        if (deps.monotonicMs() >= (engine.leases.get(state.lease) ?? 0))
          end(new CfnError('CFN_LEASE_ENDED', 'the lease has ended'));
      }, 50);
      timer.unref();
      guard.unref();
      extend(released.leaseMs);
      void engine.process.ended.then(() => end(new CfnError('CFN_ENGINE_LOST', 'the engine process ended')));
      return {
        binding,
        model: model.model,
        digest: model.digest,
        policy: released.policy,
        socketPath,
        shapes: engine.shapes,
        ended: ended.promise,
        release: () => end(new CfnError('CFN_LEASE_ENDED', 'given back')),
      };
    }
  }

  return {
    acquire,
    close: () => {
      deps.spares.close();
      for (const engine of live) engine.kill();
    },
    pids: () => [...live].map((engine) => engine.pid),
  };
}
