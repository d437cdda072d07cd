import { STATUS_ENTRIES_MAX, WORKER_INFLIGHT_MAX, type ErrorCode } from '../../proto/index.ts';
import type { AdmittedWorker, Registry } from '../registry.ts';
import type { WorkerConnection } from '../worker-connection.ts';
import { workerHintSchema, type WorkerHint } from './worker-hint.ts';

/** Between the end of a worker's status and the next question for it, in ms. */
const WATCH_AGAIN_MS = 2_000;
/** A status that was on its way while the worker took a version does not take it away again, in ms. */
const FRESH_MS = 1_000;

/** A worker that joined, with what this gateway knows of it. */
export interface Member {
  readonly workerId: string;
  connection: WorkerConnection;
  /** Requests of this gateway under way. */
  inflight: number;
  /** The last word of the worker, and what was under way from here at that time. */
  hint: WorkerHint | undefined;
  inflightAtHint: number;
  /** The operator wants no new request on it. */
  cordoned: boolean;
  /** Versions that it has ready: since when (ms), and why it was chosen for them. */
  readonly warm: Map<string, Warm>;
  readonly loading: Map<string, Promise<void>>;
  /** Versions that it could not load. */
  readonly refusals: Set<string>;
}

interface Warm {
  readonly sinceMs: number;
  readonly why: PlacementReason;
}

/** Why a version came to a worker. */
export type PlacementReason = 'deployed' | 'first request' | 'others were busy' | 'sealed to it' | 'had it already';

export interface Refusal {
  readonly code: ErrorCode;
  readonly atMs: number;
}

/** A function version as the fleet has it. */
export interface VersionView {
  /** Workers that have it ready, by id: so that all gateways prefer the same ones and the others fall idle. */
  readonly members: Member[];
  /** Requests of this gateway under way. */
  inflight: number;
  /** Workers that could not load it when they were asked last. */
  readonly refused: Map<string, Refusal>;
}

/** The local view of who has what: every routing decision is made on it, synchronously. */
export interface Fleet {
  /** A worker was admitted, or its lease renewed. */
  joined(workerId: string): void;
  left(workerId: string): void;
  /** The member, whose lease holds now. */
  member(workerId: string): Member | undefined;
  /** The registry's entry of a member, if its lease holds now. */
  admitted(member: Member): AdmittedWorker | undefined;
  members(): readonly Member[];
  withModel(digest: string): readonly Member[];
  view(version: string): VersionView;
  /** The operator wants no new request on the worker, or wants them again. That holds for its later sessions, too. */
  cordon(workerId: string, cordoned: boolean): void;
  /** A request for the version goes to the member. @returns call it when that one is over */
  enter(member: Member, version: string): () => void;
  has(member: Member, version: string, why: PlacementReason): void;
  lacks(member: Member, version: string): void;
  refused(member: Member, version: string, code: ErrorCode): void;
  /** Is told when workers may have got free, or lost what they had. */
  onChange(listener: () => void): void;
  stop(): void;
}

/** Requests under way on a worker: its own last word, which counts other gateways, too, and what went there from here since. */
export const loadOf = ({ inflight, hint, inflightAtHint }: Member): number =>
  Math.max(inflight, (hint?.inflight ?? 0) + inflight - inflightAtHint);
export const capacityOf = ({ hint }: Member): number => hint?.capacity ?? WORKER_INFLIGHT_MAX;
export const fraction = (member: Member): number => loadOf(member) / capacityOf(member);

export function fleet(deps: {
  readonly registry: Pick<Registry, 'get'>;
  readonly connection: (workerId: string) => WorkerConnection | undefined;
  readonly monotonicMs: () => number;
}): Fleet {
  const { monotonicMs } = deps;
  const byId = new Map<string, Member>();
  const cordons = new Set<string>();
  /** The same, in an order that can be sampled. */
  const all: Member[] = [];
  const views = new Map<string, VersionView>();
  const models = new Map<string, Member[]>();
  const watches = new Map<Member, { stop(): void }>();
  const listeners: (() => void)[] = [];
  const changed = (): void => listeners.forEach((listener) => listener());
  let stopped = false;

  function viewOf(version: string): VersionView {
    let view = views.get(version);
    if (view === undefined) views.set(version, (view = { members: [], inflight: 0, refused: new Map() }));
    return view;
  }
  function forgetView(version: string): void {
    const view = views.get(version);
    if (view !== undefined && view.members.length + view.inflight + view.refused.size === 0) views.delete(version);
  }

  const made: Fleet = {
    joined(workerId) {
      const connection = deps.connection(workerId);
      if (connection === undefined || stopped) return;
      const known = byId.get(workerId);
      if (known?.connection === connection) return;
      const member = known ?? {
        workerId,
        connection,
        inflight: 0,
        hint: undefined,
        inflightAtHint: 0,
        cordoned: cordons.has(workerId),
        warm: new Map(),
        loading: new Map(),
        refusals: new Set(),
      };
      member.connection = connection;
      if (known === undefined) {
        byId.set(workerId, member);
        insert(all, member);
      }
      watch(member);
      changed();
    },
    left(workerId) {
      const member = byId.get(workerId);
      if (member === undefined) return;
      byId.delete(workerId);
      remove(all, member);
      watches.get(member)?.stop();
      watches.delete(member);
      for (const version of member.warm.keys()) made.lacks(member, version);
      setModels(member, []);
      for (const version of member.refusals) {
        viewOf(version).refused.delete(workerId);
        forgetView(version);
      }
      changed();
    },
    member: (workerId) => {
      const member = byId.get(workerId);
      return member !== undefined && made.admitted(member) !== undefined ? member : undefined;
    },
    admitted: (member) => (byId.get(member.workerId) === member ? deps.registry.get(member.workerId) : undefined),
    members: () => all,
    withModel: (digest) => models.get(digest) ?? [],
    view: (version) => views.get(version) ?? NOBODY,
    cordon(workerId, cordoned) {
      if (cordoned) cordons.add(workerId);
      else cordons.delete(workerId);
      const member = byId.get(workerId);
      if (member !== undefined) member.cordoned = cordoned;
      changed();
    },
    enter(member, version) {
      const view = viewOf(version);
      member.inflight++;
      view.inflight++;
      let over = false;
      return () => {
        if (over) return;
        over = true;
        member.inflight--;
        view.inflight--;
        forgetView(version);
        changed();
      };
    },
    has(member, version, why) {
      if (byId.get(member.workerId) !== member) return;
      const view = viewOf(version);
      view.refused.delete(member.workerId);
      member.refusals.delete(version);
      if (!member.warm.has(version)) insert(view.members, member);
      member.warm.set(version, { sinceMs: monotonicMs(), why: member.warm.get(version)?.why ?? why });
      changed();
    },
    lacks(member, version) {
      if (!member.warm.delete(version)) return;
      remove(viewOf(version).members, member);
      forgetView(version);
    },
    refused(member, version, code) {
      if (byId.get(member.workerId) !== member) return;
      made.lacks(member, version);
      member.refusals.add(version);
      viewOf(version).refused.set(member.workerId, { code, atMs: monotonicMs() });
    },
    onChange: (listener) => void listeners.push(listener),
    stop() {
      stopped = true;
      for (const call of watches.values()) call.stop();
      watches.clear();
    },
  };

  function watch(member: Member): void {
    watches.get(member)?.stop();
    const { connection } = member;
    let over = false;
    const onEnd = (): void => {
      if (over) return;
      over = true;
      const again = (): void => {
        if (!stopped && byId.get(member.workerId) === member && member.connection === connection) watch(member);
      };
      setTimeout(again, WATCH_AGAIN_MS).unref();
    };
    const call = connection.watch((status) => {
      if (over || byId.get(member.workerId) !== member) return;
      const hint = workerHintSchema.safeParse(status);
      if (hint.success) hear(member, hint.data);
      else call.stop(); // what cannot be read steers nothing
    }, onEnd);
    watches.set(member, {
      stop: () => {
        over = true;
        call.stop();
      },
    });
  }

  function hear(member: Member, hint: WorkerHint): void {
    member.hint = hint;
    member.inflightAtHint = member.inflight;
    const said = new Set(hint.versions.map(({ version }) => version));
    for (const version of said) if (!member.warm.has(version)) made.has(member, version, 'had it already');
    const isAll = hint.versions.length < STATUS_ENTRIES_MAX;
    const before = monotonicMs() - FRESH_MS;
    for (const [version, { sinceMs, why }] of member.warm) {
      if (said.has(version)) continue;
      // A version that nobody here gave it is there by its word alone.
      if (why === 'had it already' || (isAll && sinceMs < before)) made.lacks(member, version);
    }
    setModels(member, hint.models);
    changed();
  }

  function setModels(member: Member, now: readonly string[]): void {
    const kept = new Set(now);
    for (const digest of residents.get(member) ?? []) {
      const holders = models.get(digest);
      if (kept.has(digest) || holders === undefined) continue;
      remove(holders, member);
      if (holders.length === 0) models.delete(digest);
    }
    for (const digest of kept) {
      let holders = models.get(digest);
      if (holders === undefined) models.set(digest, (holders = []));
      insert(holders, member);
    }
    if (kept.size === 0) residents.delete(member);
    else residents.set(member, kept);
  }
  const residents = new Map<Member, ReadonlySet<string>>();

  return made;
}

const NOBODY: VersionView = { members: [], inflight: 0, refused: new Map() };

/** The first place in a list by id that is not before the member's. */
function placeOf(list: readonly Member[], { workerId }: Member): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle]?.workerId ?? '') < workerId) low = middle + 1;
    else high = middle;
  }
  return low;
}
function insert(list: Member[], member: Member): void {
  const at = placeOf(list, member);
  if (list[at] !== member) list.splice(at, 0, member);
}
function remove(list: Member[], member: Member): void {
  const at = placeOf(list, member);
  if (list[at] === member) list.splice(at, 1);
}
