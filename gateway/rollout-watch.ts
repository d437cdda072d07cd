import { ERRORS, toCfnError, type ErrorCode } from '../proto/index.ts';
import type { Deployed, DeployedVersion } from './catalogue.ts';
import type { Log } from './log.ts';
import type { Fleet, VersionView } from './routing/fleet.ts';
import type { Deployment, Store } from './store/index.ts';

/** Below this attested share a version gets no more requests, if the other one is not below it. */
const SHARE_MIN = 0.5;
/** Time over which errors are counted, in ms. */
const WINDOW_MS = 60_000;
/** A version stops with at least so many requests in the window, where more than this part fails, and more than the other's part may be. */
const STOP = { requests: 20, fraction: 0.05 } as const;
/** What the other version's failures may come to, with 95 % confidence, is three more than were seen (the rule of three). */
const UNSEEN_FAILURES = 3;
/** Roll-outs that are watched at once; the oldest is forgotten, and watched again from its next request on. */
const WATCHED_MAX = 10_000;

/** Why a worker does not have a version, that says nothing of the version: it had no room, or it was away. */
const NOT_ITS_FAULT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'CFN_BUSY',
  'CFN_WORKER_LOST',
  'CFN_WORKER_UNAVAILABLE',
  'CFN_DEADLINE',
  'CFN_ABORTED',
  'CFN_STORE_FAILED',
]);

/**
 * The admitted workers that could load and serve a version, of those that were asked and could say: 1 where none was. A worker that
 * refuses it later, because a lease was withdrawn, leaves the share.
 */
export function attestedShare({ members, refused }: Pick<VersionView, 'members' | 'refused'>): number {
  const unable = [...refused.values()].filter(({ code }) => !NOT_ITS_FAULT.has(code)).length;
  return members.length + unable === 0 ? 1 : members.length / (members.length + unable);
}

/** Looks at roll-outs while they go on, and stops one whose version does worse than the other. */
export interface RolloutWatch {
  /** A request is served from this deployment. */
  follow(deployed: Deployed): void;
  /** A request for the version has come to this; `ok`, or the code of the failure, the function's own included. */
  ended(version: string, outcome: 'ok' | ErrorCode): void;
}

interface Tally {
  requests: number;
  failed: number;
}
interface Count {
  startMs: number;
  now: Tally;
  before: Tally;
}
interface Watched {
  readonly deployed: Deployed;
  readonly counts: ReadonlyMap<string, Count>;
  /** The version that had all requests before the roll-out; `null` where there was none, `undefined` until it is known. */
  from: string | null | undefined;
  stopping: boolean;
}

export function rolloutWatch(deps: {
  readonly store: Pick<Store, 'addDeployment' | 'deployments'>;
  readonly fleet: Pick<Fleet, 'view'>;
  readonly monotonicMs: () => number;
  readonly now: () => Date;
  readonly log: Log;
  readonly onStop?: (reason: 'share' | 'errors') => void;
}): RolloutWatch {
  const { fleet, monotonicMs, log } = deps;
  /** By each of its versions. */
  const watched = new Map<string, Watched>();

  function forget({ deployed }: Watched): void {
    for (const { version } of deployed.versions) watched.delete(version);
  }

  function reasonToStop(it: DeployedVersion, other: DeployedVersion, { counts, from }: Watched): Reason | undefined {
    const [share, otherShare] = [it, other].map(({ version }) => attestedShare(fleet.view(version))) as [
      number,
      number,
    ];
    if (share < SHARE_MIN && otherShare >= SHARE_MIN) {
      const { members, refused } = fleet.view(it.version);
      const codes = [...new Set([...refused.values()].map(({ code }) => code))].join(', ');
      const asked = members.length + refused.size;
      return { kind: 'share', text: `${members.length} of ${asked} workers that were asked can serve it: ${codes}` };
    }
    // Callers may choose among the versions, and make their own requests fail: what they can stop by that is the roll-out, never what was
    // there before it.
    if (from === undefined || from === it.version) return undefined;
    const [mine, others] = [it, other].map(({ version }) => inWindow(counts.get(version))) as [Tally, Tally];
    const part = mine.failed / mine.requests;
    const worse = part > STOP.fraction && part > (others.failed + UNSEEN_FAILURES) / others.requests;
    if (mine.requests < STOP.requests || !worse) return undefined;
    const said = ({ requests, failed }: Tally): string => `${failed} of ${requests}`;
    const text = `${said(mine)} requests of the last minute failed, of the other version's ${said(others)}`;
    return { kind: 'errors', text };
  }

  async function stop(
    it: DeployedVersion,
    other: DeployedVersion,
    { deployed }: Watched,
    reason: Reason,
  ): Promise<void> {
    const { tenant, name, id } = deployed;
    const versions = [
      { version: other.version, percent: 100 },
      { version: it.version, percent: 0 },
    ];
    const message = `${it.version} stopped: ${reason.text}`;
    try {
      const at = deps.now().toISOString();
      await deps.store.addDeployment({ tenant, name, versions, at, cause: 'stopped', message }, id);
      deps.onStop?.(reason.kind);
      log('rollout.stopped', { tenant, function: name, version: it.version, reason: reason.kind });
    } catch (cause) {
      const { code } = toCfnError(cause); // a conflict: somebody else has decided meanwhile
      if (code !== 'CFN_CONFLICT') log('rollout.not-stopped', { tenant, function: name, code });
    }
  }

  function judge(it: Watched): void {
    const [a, b] = it.deployed.versions;
    if (b === undefined || it.stopping) return;
    for (const [version, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const reason = reasonToStop(version, other, it);
      if (reason === undefined) continue;
      it.stopping = true; // tried again with the next request where the store refuses
      void stop(version, other, it, reason).finally(() => (it.stopping = false));
      return;
    }
  }

  return {
    follow(deployed) {
      const { versions, id } = deployed;
      const known = watched.get(versions[0].version);
      if (known?.deployed.id === id) return;
      if (known !== undefined) forget(known);
      if (versions.filter(({ percent }) => percent > 0).length < 2) return;
      const startMs = monotonicMs();
      const empty = (): Tally => ({ requests: 0, failed: 0 });
      const counts = new Map(versions.map(({ version }) => [version, { startMs, now: empty(), before: empty() }]));
      const made: Watched = { deployed, counts, from: undefined, stopping: false };
      const { tenant, name } = deployed;
      deps.store.deployments(tenant, name).then(
        (history) => (made.from = wholeBefore(id, history)),
        (cause: unknown) => log('rollout.unknown', { tenant, function: name, code: toCfnError(cause).code }),
      );
      const [oldest] = watched.size >= WATCHED_MAX ? watched.values() : [];
      if (oldest !== undefined) forget(oldest);
      for (const { version } of versions) watched.set(version, made);
    },
    ended(version, outcome) {
      const it = watched.get(version);
      const count = it?.counts.get(version);
      if (it === undefined || count === undefined) return;
      const nowMs = monotonicMs();
      for (const each of it.counts.values()) turnOver(each, nowMs);
      count.now.requests++;
      if (outcome !== 'ok' && ERRORS[outcome].fault !== 'caller' && outcome !== 'CFN_ABORTED') count.now.failed++;
      judge(it);
    },
  };
}

/** The version that the newest deployment before this one gave all requests to. */
function wholeBefore(id: number, history: readonly Deployment[]): string | null {
  const whole = history.find((it) => it.id < id && it.versions.some(({ percent }) => percent === 100));
  return whole?.versions.find(({ percent }) => percent === 100)?.version ?? null;
}

interface Reason {
  readonly kind: 'share' | 'errors';
  readonly text: string;
}
/** Two halves of a window: the older one goes as a whole. */
function turnOver(count: Count, nowMs: number): void {
  const halves = Math.floor((nowMs - count.startMs) / (WINDOW_MS / 2));
  if (halves === 0) return;
  count.before = halves === 1 ? count.now : { requests: 0, failed: 0 };
  count.now = { requests: 0, failed: 0 };
  count.startMs += (halves * WINDOW_MS) / 2;
}

function inWindow(count: Count | undefined): Tally {
  const halves = count === undefined ? [] : [count.now, count.before];
  return {
    requests: halves.reduce((sum, { requests }) => sum + requests, 0),
    failed: halves.reduce((sum, { failed }) => sum + failed, 0),
  };
}
