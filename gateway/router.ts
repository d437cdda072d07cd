import { CfnError, memoryNeeds, neededBytes, toCfnError, type ErrorCode, type SignedManifest } from '../proto/index.ts';
import type { AdmittedWorker } from './registry.ts';
import { BUSY_FRACTION, hasRoom, leastOfTwo, servingCount } from './routing/choose.ts';
import { fraction, type Fleet, type Member, type PlacementReason } from './routing/fleet.ts';
import type { Random } from './routing/random.ts';
import { waitingLine } from './routing/waiting-line.ts';
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
  /**
   * The less loaded of two workers that have the version ready; where none has, it is loaded on one with its models, or with room. Waits
   * where all are at their limit.
   *
   * @param gone makes a signal of the caller's going away, where the request has to wait
   * @throws {CfnError} `CFN_WORKER_UNAVAILABLE`, `CFN_BUSY` with the seconds to wait, or why loading failed
   */
  toAny(version: SignedManifest, gone?: () => AbortSignal): Promise<Route>;
  /** The worker that a request was sealed to, and no other. @throws {CfnError} `CFN_KEY_CONFIG_STALE` when it is not admitted */
  toWorker(workerId: string, version: SignedManifest, gone?: () => AbortSignal): Promise<Route>;
  /** Workers that a request for the version may be sealed to, the least loaded first; where none has it yet, one that is to load it. */
  candidates(version: SignedManifest): Promise<readonly Member[]>;
  /** Has a few workers load a version that was just deployed. */
  deploy(version: SignedManifest): Promise<LoadOutcome[]>;
  /** The worker says that it does not have the version: it is handed over again at the next request. */
  unloaded(workerId: string, version: string): void;
  /** Requests that wait for a worker. */
  waiting(): number;
}

/** Workers that a version is tried on before its request fails. */
const TRIES_MAX = 3;
/** Workers that load a version when it is deployed: enough to see that it can be loaded, and to survive one. */
const DEPLOY_WORKERS = 3;
/** Workers looked at for the one with most room. */
const ROOM_SAMPLE = 8;
/** Workers in the attestation document. */
const CANDIDATES_MAX = 32;
/** Between two workers that get a version because the others are busy, in ms: the first has to take load before more is decided. */
const SPREAD_MS = 1_000;

export function router(deps: {
  readonly fleet: Fleet;
  readonly store: Pick<Store, 'version' | 'model'>;
  readonly random: Random;
  readonly monotonicMs: () => number;
  /** Told of each load and of each request that was turned away. */
  readonly onLoad?: (outcome: 'ok' | ErrorCode) => void;
  readonly onShed?: () => void;
}): Router {
  const { fleet, random, monotonicMs } = deps;
  const line = waitingLine<Route>({ monotonicMs, onShed: deps.onShed });
  /** First loads under way, by version: requests that come meanwhile wait for that one. */
  const placing = new Map<string, Promise<Member>>();
  const spreadAtMs = new Map<string, number>();
  let serving = false;
  fleet.onChange(() => {
    if (serving || line.length() === 0) return;
    serving = true; // once for all that changes in this turn of the event loop
    setImmediate(() => {
      serving = false;
      line.serve();
    });
  });

  const usable = (member: Member): boolean =>
    !member.cordoned && member.hint?.leaving !== true && fleet.admitted(member) !== undefined;
  const fits = (member: Member): boolean => hasRoom(member) && usable(member);

  function take(member: Member, version: string): Route | undefined {
    const worker = fleet.admitted(member);
    if (worker === undefined || !fits(member)) return undefined;
    const leave = fleet.enter(member, version);
    const release = (): void => {
      leave();
      line.ended(version);
    };
    return { worker, connection: member.connection, release };
  }

  /** A worker that has the version ready. */
  function ready(version: string): Member | undefined {
    const view = fleet.view(version);
    return (
      leastOfTwo(view.members, servingCount(view), fits, random) ??
      leastOfTwo(view.members, view.members.length, fits, random)
    );
  }
  function takeReady(version: string): Route | undefined {
    const member = ready(version);
    return member === undefined ? undefined : take(member, version);
  }

  async function manifests({ manifest }: SignedManifest): Promise<Uint8Array[]> {
    return Promise.all(
      manifest.models.map(async ({ model, digest }) => {
        const held = await deps.store.model(model);
        if (held?.digest !== digest)
          throw new CfnError('CFN_MODEL_NOT_FOUND', `model ${model} with digest ${digest} is not in the catalogue`);
        return held.manifest;
      }),
    );
  }
  async function handOver(member: Member, signed: SignedManifest): Promise<void> {
    const { version, jws } = signed;
    const stored = await deps.store.version(version);
    if (stored === undefined) throw new CfnError('CFN_STORE_FAILED', `version ${version} is not in the store`);
    const computed = await member.connection.load(jws, stored.bundle, await manifests(signed));
    if (computed !== version)
      throw new CfnError('CFN_VERSION_MISMATCH', `the worker loaded version ${computed}, expected ${version}`);
  }
  /** Has the worker load the version; once, however many ask. */
  function load(member: Member, signed: SignedManifest, why: PlacementReason): Promise<void> {
    const { version } = signed;
    if (member.warm.has(version)) return Promise.resolve();
    const known = member.loading.get(version);
    if (known !== undefined) return known;
    const loading = handOver(member, signed)
      .then(
        () => {
          fleet.has(member, version, why);
          deps.onLoad?.('ok');
        },
        (cause: unknown) => {
          const { code } = toCfnError(cause);
          fleet.refused(member, version, code);
          deps.onLoad?.(code);
          throw cause;
        },
      )
      .finally(() => member.loading.delete(version));
    member.loading.set(version, loading);
    return loading;
  }

  /** Where the version would go next: to a worker with its models, else to the one with most room of a few, and rather not where it failed. */
  async function nextFor(signed: SignedManifest, not: ReadonlySet<Member>): Promise<Member | undefined> {
    const { members, refused } = fleet.view(signed.version);
    const has = new Set(members);
    const free = (member: Member): boolean => fits(member) && !not.has(member) && !has.has(member);
    const unrefused = (member: Member): boolean => free(member) && !refused.has(member.workerId);
    const needed = neededBytes([await memoryNeeds(signed, await manifests(signed))]);
    const rooms = (member: Member): boolean => unrefused(member) && (member.hint?.memoryFree ?? Infinity) >= needed;
    const [rarest] = signed.manifest.models
      .map(({ digest }) => fleet.withModel(digest))
      .toSorted((a, b) => a.length - b.length);
    const all = fleet.members();
    const sampled = (accept: (member: Member) => boolean): Member | undefined => {
      const sample = Array.from({ length: Math.min(ROOM_SAMPLE, all.length) }, () =>
        leastOfTwo(all, all.length, accept, random),
      );
      return sample
        .filter((member) => member !== undefined)
        .toSorted((a, b) => fraction(a) - fraction(b) || freeOf(b) - freeOf(a))[0];
    };
    const withModels = rarest && leastOfTwo(rarest, rarest.length, unrefused, random);
    // Where no worker has room, one may make it: it ends what nobody uses.
    return withModels ?? sampled(rooms) ?? sampled(unrefused) ?? sampled(free);
  }

  /** Loads the version on one worker more. @throws {CfnError} the last refusal */
  async function place(signed: SignedManifest, why: PlacementReason): Promise<Member> {
    const tried = new Set<Member>();
    let refusal: CfnError | undefined;
    while (tried.size < TRIES_MAX) {
      const member = await nextFor(signed, tried);
      if (member === undefined) break;
      tried.add(member);
      try {
        await load(member, signed, why);
        return member;
      } catch (cause) {
        refusal = toCfnError(cause);
        // Another worker can help where this one is the trouble; a broken manifest is broken everywhere.
        if (refusal.fault !== 'system') throw refusal;
      }
    }
    throw refusal ?? noWorker();
  }
  function noWorker(): CfnError {
    const full = fleet.members().some(usable);
    return full
      ? new CfnError('CFN_BUSY', 'every worker is at its limit', { retryAfterSeconds: 1 })
      : new CfnError('CFN_WORKER_UNAVAILABLE', 'no worker is admitted that takes requests');
  }
  /** The first load of a version, which all its requests wait for. */
  function placeFirst(signed: SignedManifest): Promise<Member> {
    const { version } = signed;
    let first = placing.get(version);
    if (first === undefined) {
      first = place(signed, 'first request').finally(() => placing.delete(version));
      placing.set(version, first);
    }
    return first;
  }
  /** Those that have the version are busy: one more gets it, and nobody waits for that. */
  function spread(signed: SignedManifest): void {
    const { version } = signed;
    const nowMs = monotonicMs();
    if (placing.has(version) || nowMs - (spreadAtMs.get(version) ?? -Infinity) < SPREAD_MS) return;
    if (fleet.view(version).members.length >= fleet.members().length) return;
    const more = place(signed, 'others were busy').finally(() => {
      placing.delete(version);
      const endMs = monotonicMs();
      for (const [other, atMs] of spreadAtMs) if (endMs - atMs > SPREAD_MS) spreadAtMs.delete(other);
      spreadAtMs.set(version, endMs);
    });
    more.catch(() => undefined); // said in the metrics, and in why the worker does not have it
    placing.set(version, more);
  }

  async function toAny(signed: SignedManifest, gone?: () => AbortSignal): Promise<Route> {
    const { version } = signed;
    const member = line.isWaiting(version) ? undefined : ready(version);
    if (member !== undefined) {
      if (fraction(member) >= BUSY_FRACTION) spread(signed);
      const route = take(member, version);
      if (route !== undefined) return route;
    }
    if (!fleet.view(version).members.some(usable)) {
      const placed = take(await placeFirst(signed), version);
      if (placed !== undefined) return placed;
    }
    const takeOrSpread = (): Route | undefined => {
      const route = takeReady(version);
      if (route === undefined) spread(signed);
      return route;
    };
    const { tenant } = signed.manifest;
    spread(signed);
    return line.wait({ tenant, version, queue: version, take: takeOrSpread, gone: gone?.() });
  }

  return {
    toAny,
    async toWorker(workerId, signed, gone) {
      const { version } = signed;
      const stale = (): CfnError =>
        new CfnError(
          'CFN_KEY_CONFIG_STALE',
          'the request is sealed to a worker that is not admitted, or takes no new ones',
        );
      const member = fleet.member(workerId);
      if (member === undefined || !usable(member)) throw stale();
      if (!member.warm.has(version)) {
        await load(member, signed, 'sealed to it');
        // Loading can take minutes: the lease may have ended meanwhile, or another have begun.
        if (!usable(member)) throw stale();
      }
      const queue = `${version}/${workerId}`;
      const route = line.isWaiting(queue) ? undefined : take(member, version);
      if (fraction(member) >= BUSY_FRACTION) spread(signed);
      if (route !== undefined) return route;
      const { tenant } = signed.manifest;
      const takeIt = (): Route | undefined => {
        if (!usable(member)) throw stale();
        return take(member, version);
      };
      return line.wait({ tenant, version, queue, take: takeIt, gone: gone?.() });
    },
    async candidates(signed) {
      const view = fleet.view(signed.version);
      const serving = view.members.filter(usable).slice(0, Math.max(servingCount(view), 1));
      if (serving.length > 0) return serving.toSorted((a, b) => fraction(a) - fraction(b)).slice(0, CANDIDATES_MAX);
      // Not loaded for a question: the request that is sealed to it does that.
      const next = await nextFor(signed, new Set());
      return next === undefined ? [] : [next];
    },
    async deploy(signed) {
      const chosen = new Set<Member>();
      while (chosen.size < DEPLOY_WORKERS) {
        const next = fleet.view(signed.version).members.find((member) => usable(member) && !chosen.has(member));
        const member = next ?? (await nextFor(signed, chosen));
        if (member === undefined) break;
        chosen.add(member);
      }
      return Promise.all(
        [...chosen].map(async (member): Promise<LoadOutcome> => {
          const { workerId } = member;
          try {
            await load(member, signed, 'deployed');
            return { workerId, loaded: true };
          } catch (cause) {
            const { code, message } = toCfnError(cause);
            return { workerId, loaded: false, code, message };
          }
        }),
      );
    },
    unloaded(workerId, version) {
      const member = fleet.member(workerId);
      if (member !== undefined) fleet.lacks(member, version);
    },
    waiting: () => line.length(),
  };
}

const freeOf = ({ hint }: Member): number => hint?.memoryFree ?? 0;
