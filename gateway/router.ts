import { CfnError, toCfnError, WORKER_INFLIGHT_MAX, type ErrorCode, type SignedManifest } from '../proto/index.ts';
import type { Admission } from './admission.ts';
import type { AdmittedWorker, Registry } from './registry.ts';
import type { Store } from './store/index.ts';
import type { WorkerConnection } from './worker-connection.ts';

/** A worker for one request, which has the function version. `release` once the request is over. */
export interface Route {
  readonly worker: AdmittedWorker;
  readonly connection: WorkerConnection;
  release(): void;
}

export type LoadOutcome =
  | { readonly workerId: string; readonly loaded: true }
  | { readonly workerId: string; readonly loaded: false; readonly code: ErrorCode; readonly message: string };

export interface Router {
  /** The admitted worker with the fewest requests under way. @throws {CfnError} `CFN_WORKER_UNAVAILABLE`, `CFN_BUSY`, or why loading failed */
  toAny(version: SignedManifest): Promise<Route>;
  /** The worker that a request was sealed to, and no other. @throws {CfnError} `CFN_KEY_CONFIG_STALE` when it is not admitted */
  toWorker(workerId: string, version: SignedManifest): Promise<Route>;
  /** Hands a version to all admitted workers. */
  loadEverywhere(version: SignedManifest): Promise<LoadOutcome[]>;
  /** The worker says that it does not have the version: it is handed over again at the next request. */
  unloaded(workerId: string, version: string): void;
}

interface Load {
  inflight: number;
  /** Versions that the worker has (`true`) or is taking. */
  readonly versions: Map<string, true | Promise<void>>;
}

export function router(deps: {
  readonly registry: Registry;
  readonly admission: Pick<Admission, 'connection'>;
  readonly store: Pick<Store, 'version' | 'model'>;
}): Router {
  const loads = new Map<string, Load>();

  function loadOf(workerId: string): Load {
    let load = loads.get(workerId);
    if (load === undefined) {
      // Workers come and go under new ids; what belongs to those that left is forgotten here.
      for (const [id, other] of loads)
        if (other.inflight === 0 && deps.registry.get(id) === undefined) loads.delete(id);
      loads.set(workerId, (load = { inflight: 0, versions: new Map() }));
    }
    return load;
  }

  async function handOver(connection: WorkerConnection, { manifest, version, jws }: SignedManifest): Promise<void> {
    const stored = await deps.store.version(version);
    if (stored === undefined) throw new CfnError('CFN_STORE_FAILED', `version ${version} is not in the store`);
    const models = await Promise.all(
      manifest.models.map(async ({ model, digest }) => {
        const held = await deps.store.model(model);
        if (held?.digest !== digest)
          throw new CfnError('CFN_MODEL_NOT_FOUND', `model ${model} with digest ${digest} is not in the catalogue`);
        return held.manifest;
      }),
    );
    const computed = await connection.load(jws, stored.bundle, models);
    if (computed !== version)
      throw new CfnError('CFN_VERSION_MISMATCH', `the worker loaded version ${computed}, expected ${version}`);
  }

  /** `undefined` when the worker has the version already, so that the common case costs no turn of the event loop. */
  function ensureLoaded(load: Load, connection: WorkerConnection, version: SignedManifest): Promise<void> | undefined {
    const known = load.versions.get(version.version);
    if (known !== undefined) return known === true ? undefined : known;
    const loading = handOver(connection, version).then(
      () => void load.versions.set(version.version, true),
      (cause: unknown) => {
        load.versions.delete(version.version);
        throw cause;
      },
    );
    load.versions.set(version.version, loading);
    return loading;
  }

  async function routeTo(worker: AdmittedWorker, version: SignedManifest): Promise<Route> {
    const connection = deps.admission.connection(worker.workerId);
    if (connection === undefined) throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the worker is not connected');
    const load = loadOf(worker.workerId);
    if (load.inflight >= WORKER_INFLIGHT_MAX)
      throw new CfnError('CFN_BUSY', `the worker has ${load.inflight} requests under way`);
    load.inflight++;
    let held = true;
    const release = (): void => {
      if (held) load.inflight--;
      held = false;
    };
    try {
      const loading = ensureLoaded(load, connection, version);
      if (loading !== undefined) {
        await loading;
        // Loading can take minutes: the lease may have ended meanwhile.
        if (deps.registry.get(worker.workerId) === undefined)
          throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the worker left while loading');
      }
      return { worker, connection, release };
    } catch (cause) {
      release();
      throw cause;
    }
  }

  return {
    async toAny(version) {
      const rank = ({ workerId }: AdmittedWorker): number => loads.get(workerId)?.inflight ?? 0;
      const workers = deps.registry.live().toSorted((a, b) => rank(a) - rank(b));
      let refusal: CfnError | undefined;
      for (const worker of workers) {
        try {
          return await routeTo(worker, version);
        } catch (cause) {
          refusal = toCfnError(cause);
          // Another worker can help where this one is the trouble; a broken manifest is broken everywhere.
          if (refusal.fault !== 'system') throw refusal;
        }
      }
      throw refusal ?? new CfnError('CFN_WORKER_UNAVAILABLE', 'no worker is admitted');
    },
    async toWorker(workerId, version) {
      const worker = deps.registry.get(workerId);
      if (worker === undefined)
        throw new CfnError('CFN_KEY_CONFIG_STALE', 'the request is sealed to a worker that is not admitted');
      return routeTo(worker, version);
    },
    loadEverywhere: (version) =>
      Promise.all(
        deps.registry.live().map(async (worker): Promise<LoadOutcome> => {
          const { workerId } = worker;
          try {
            (await routeTo(worker, version)).release();
            return { workerId, loaded: true };
          } catch (cause) {
            const { code, message } = toCfnError(cause);
            return { workerId, loaded: false, code, message };
          }
        }),
      ),
    unloaded: (workerId, version) => void loads.get(workerId)?.versions.delete(version),
  };
}
