import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { BlobStore } from '../../artifacts/index.ts';
import { CfnError, isKbsUrl, parseModelPackage, type SignedManifest } from '../../proto/index.ts';
import type { EngineProcess, ModelShapes } from './engine-process.ts';
import type { DropReports } from './drop-reports.ts';
import { holdLease, type InvocationCount } from './held-lease.ts';
import type { KeyClient, Released } from './key-client.ts';
import type { LeaseWatch } from './lease-watch.ts';
import type { SpareProcess } from './spare-process.ts';

/** How long a worker that stops waits for its KMSs to take its last statements, in ms. */
const LAST_WORDS_MS = 2_000;

/** One function version's use of one model, under a lease of its own. */
export interface ModelUse {
  readonly binding: string;
  readonly model: string;
  readonly digest: string;
  /** Digest of the policy under which the KMS released the key. */
  readonly policy: string;
  readonly socketPath: string;
  readonly shapes: ModelShapes;
  readonly count: InvocationCount;
  /** Resolves when lease or engine ended, with the reason. */
  readonly ended: Promise<CfnError>;
  release(): void;
}

/** Engines by model: one process per model, for as long as at least one function's lease on it lives. */
export interface ModelHost {
  /** @throws {CfnError} `CFN_MODEL_UNDECLARED`, `CFN_ARTIFACT_ALTERED`, what the KMS answers and the engine says */
  acquire(binding: string, packageBytes: Uint8Array, manifest: SignedManifest): Promise<ModelUse>;
  /** Ends all engines, and tells the KMSs. */
  close(): Promise<void>;
  /** Digests of the models whose engine runs or starts. */
  resident(): readonly string[];
  pids(): readonly number[];
  /** Live leases on keys. */
  leases(): number;
}

interface Engine {
  readonly process: EngineProcess;
  readonly shapes: ModelShapes;
  /** Live leases: end on the clock of leases, ms. */
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
  readonly watch: LeaseWatch;
  readonly drops: DropReports;
  readonly leaseClockMs: () => number;
  readonly log: (event: string, fields?: Readonly<Record<string, string | number>>) => void;
}

export function modelHost(deps: ModelHostDeps): ModelHost {
  const engines = new Map<string, Promise<Engine>>();
  const live = new Set<EngineProcess>();
  const leases = new Set<string>();

  async function acquire(binding: string, packageBytes: Uint8Array, manifest: SignedManifest): Promise<ModelUse> {
    const model = await parseModelPackage(
      packageBytes,
      manifest.manifest.models.find((entry) => entry.binding === binding)?.digest,
    );
    demandOneName(model, manifest);
    const wrappingKey = (engine: EngineProcess): string =>
      isKbsUrl(model.kms.url) ? engine.teePubkey : engine.wrappingKey;
    const subject = { model: model.digest, functionManifest: manifest.jws };
    for (let known = engines.get(model.digest); known !== undefined; known = engines.get(model.digest)) {
      const running = await known.catch(() => undefined);
      if (running === undefined) continue; // it is off the map, or another is being started
      running.joining += 1;
      try {
        const released = await deps.keys.release(model.kms, {
          ...subject,
          wrappingKey: wrappingKey(running.process),
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
        const released = await deps.keys.release(model.kms, { ...subject, wrappingKey: wrappingKey(taken) });
        if (released.wrappedKey === undefined) throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS released no key');
        const { wrappedKey, challenge } = released;
        const leaseMs = remainingMs(released.endsAt);
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

    async function hold(engine: Engine, released: Released): Promise<ModelUse> {
      const socketPath = join(engine.process.sockets, `${randomBytes(16).toString('hex')}.sock`);
      await engine.process.listen(socketPath);
      const { lease } = released;
      const held = holdLease(model.kms, released, {
        watch: deps.watch,
        leaseClockMs: deps.leaseClockMs,
        remainingMs: () => deps.keys.leaseRemainingMs(model.kms, lease),
        renew: (used) =>
          deps.keys.release(model.kms, {
            ...subject,
            wrappingKey: wrappingKey(engine.process),
            renew: { lease, used },
          }),
        onTerm: (endsAt) => {
          engine.leases.set(lease, endsAt);
          const longest = Math.max(1, Math.floor(Math.max(...engine.leases.values()) - deps.leaseClockMs()));
          void engine.process.setLease(longest).catch(() => undefined);
        },
      });
      leases.add(lease);
      void held.ended.then((reason) => {
        leases.delete(lease);
        engine.leases.delete(lease);
        endUnheld(engine);
        if (engine.leases.size > 0) void engine.process.unlisten(socketPath).catch(() => undefined);
        deps.log('lease.ended', { model: model.model, code: reason.code });
        // Where other leases hold the engine, the key is gone with the last of them, and not before.
        void engine.process.ended.then(() => deps.drops.report(model.kms, lease, reason.code, held.used()));
      });
      void engine.process.ended.then(() => held.end(new CfnError('CFN_ENGINE_LOST', 'the engine process ended')));
      return {
        binding,
        model: model.model,
        digest: model.digest,
        policy: released.policy,
        socketPath,
        shapes: engine.shapes,
        count: held.count,
        ended: held.ended,
        release: () => held.end(new CfnError('CFN_LEASE_ENDED', 'given back')),
      };
    }
  }

  /** @throws {CfnError} `CFN_LEASE_ENDED` */
  function remainingMs(endsAt: number): number {
    const left = Math.floor(endsAt - deps.leaseClockMs());
    if (left <= 0) throw new CfnError('CFN_LEASE_ENDED', 'the lease has ended');
    return left;
  }

  return {
    acquire,
    close: async () => {
      deps.spares.close();
      deps.watch.close();
      for (const engine of live) engine.kill();
      await Promise.all([...live].map((engine) => engine.ended));
      await new Promise(setImmediate); // what follows from their end
      await deps.drops.settled(LAST_WORDS_MS);
    },
    resident: () => [...engines.keys()],
    pids: () => [...live].map((engine) => engine.pid),
    leases: () => leases.size,
  };
}

/**
 * The manifest must call the package what its owner calls it, wherever it names it: the KMS lets any owner keep a key and grants under this
 * digest and another name, and an engine that already runs asks for no key that would show whose those are.
 *
 * @throws {CfnError} `CFN_MODEL_UNDECLARED`
 */
function demandOneName(
  { digest, model }: Awaited<ReturnType<typeof parseModelPackage>>,
  manifest: SignedManifest,
): void {
  const names = manifest.manifest.models.filter((entry) => entry.digest === digest).map((entry) => entry.model);
  if (names.length === 0 || names.some((name) => name !== model))
    throw new CfnError('CFN_MODEL_UNDECLARED', `the function manifest does not name ${digest} as ${model} alone`);
}
