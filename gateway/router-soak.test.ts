import { expect, test } from 'vitest';
import { CfnError, type SignedManifest } from '../proto/index.ts';
import type { WorkerStatus } from '../proto/grpc.ts';
import type { AdmittedWorker } from './registry.ts';
import { router } from './router.ts';
import { fleet, type Fleet } from './routing/fleet.ts';
import { seededRandom } from './routing/random.ts';
import { BUNDLE, signedFunction } from './testkit.ts';
import type { WorkerConnection } from './worker-connection.ts';

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

test.each([1, 2, 3, 4])(
  'through random failures no request goes where none may, and nothing is left over (%i)',
  async (seed) => {
    const random = seededRandom(new Uint8Array(16).fill(seed));
    const chance = (part: number): boolean => random() < part;
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;

    const ids = ['a', 'b', 'c', 'd'];
    const admitted = new Set<string>();
    const connections = new Map<string, WorkerConnection>();
    const statuses = new Map<string, (status: WorkerStatus) => void>();
    const leaving = new Set<string>();
    const cordoned = new Set<string>();
    const signed = await Promise.all(
      Array.from({ length: 4 }, (_, i) => signedFunction({ tenant: `t${i % 2}`, name: `f${i}` })),
    );
    const view = fleet({
      registry: { get: (workerId) => (admitted.has(workerId) ? ({ workerId } as AdmittedWorker) : undefined) },
      connection: (workerId) => connections.get(workerId),
      monotonicMs: () => performance.now(),
    });
    let wrong = 0;
    const watched: Fleet = {
      ...view,
      enter(member, version) {
        const { workerId, connection } = member;
        const allowed = admitted.has(workerId) && !cordoned.has(workerId) && !leaving.has(workerId);
        if (!allowed || connection !== connections.get(workerId)) wrong++;
        return view.enter(member, version);
      },
    };
    const routes = router({
      fleet: watched,
      store: {
        version: async (version) => {
          const held = signed.find((it) => it.version === version) as SignedManifest;
          return { tenant: 't', name: 'f', version, jws: held.jws, bundle: BUNDLE };
        },
        model: async () => undefined,
      },
      random,
      monotonicMs: () => performance.now(),
    });
    const join = (workerId: string): void => {
      if (admitted.has(workerId)) return;
      const connection: Pick<WorkerConnection, 'load' | 'watch'> = {
        async load(jws) {
          for (let i = Math.floor(random() * 4); i > 0; i--) await turn();
          if (chance(0.2)) throw new CfnError(pick(['CFN_BUSY', 'CFN_WORKER_LOST', 'CFN_GRANT_MISSING']), 'no');
          return signed.find((it) => it.jws === jws)?.version ?? '';
        },
        watch: (onStatus) => {
          statuses.set(workerId, onStatus);
          return { stop: () => undefined };
        },
      };
      connections.set(workerId, connection as WorkerConnection);
      admitted.add(workerId);
      leaving.delete(workerId);
      view.joined(workerId);
      tell(workerId);
    };
    const leave = (workerId: string): void => {
      admitted.delete(workerId);
      view.left(workerId);
    };
    const tell = (workerId: string): void => {
      const versions = signed.filter(() => chance(0.5)).map(({ version }) => ({ version }));
      const inflight = Math.floor(random() * 3);
      statuses.get(workerId)?.({ capacity: 4, inflight, versions, leaving: leaving.has(workerId) });
    };
    const cordon = (workerId: string, on: boolean): void => {
      if (on) cordoned.add(workerId);
      else cordoned.delete(workerId);
      view.cordon(workerId, on);
    };
    const trouble: (() => void)[] = [
      () => join(pick(ids)),
      () => leave(pick(ids)),
      () => tell(pick(ids)),
      () => cordon(pick(ids), chance(0.3)),
      () => admitted.delete(pick(ids)), // the lease is over, and nobody has said so yet
      () => routes.unloaded(pick(ids), pick(signed).version),
      () => {
        const workerId = pick(ids);
        leaving.add(workerId);
        tell(workerId);
      },
    ];

    let [served, refused] = [0, 0];
    const callers: AbortController[] = [];
    const request = async (): Promise<void> => {
      const gone = new AbortController();
      callers.push(gone);
      const version = pick(signed);
      const route = chance(0.5)
        ? routes.toAny(version, () => gone.signal)
        : routes.toWorker(pick(ids), version, () => gone.signal);
      if (chance(0.2)) setImmediate(() => gone.abort());
      try {
        const taken = await route;
        served++;
        for (let i = Math.floor(random() * 5); i > 0; i--) await turn();
        taken.release();
        if (chance(0.3)) taken.release();
      } catch (cause) {
        refused++;
        if (!(cause instanceof CfnError) || cause.code === 'CFN_INTERNAL') throw cause;
      }
    };
    ids.forEach(join);
    const all: Promise<void>[] = [];
    for (let step = 0; step < 1_500; step++) {
      all.push(request());
      if (chance(0.3)) pick(trouble)();
      if (chance(0.5)) await turn();
    }
    for (const gone of callers) gone.abort();
    await Promise.all(all);
    for (const id of ids) leave(id);
    expect([routes.waiting(), wrong]).toEqual([0, 0]);
    for (const { version } of signed) expect(view.view(version)).toMatchObject({ inflight: 0, members: [] });
    for (const id of ids) {
      cordon(id, false);
      join(id);
      expect(view.member(id)?.inflight).toBe(0);
    }
    expect(served).toBeGreaterThan(100);
    expect(refused).toBeGreaterThan(100);
  },
);
