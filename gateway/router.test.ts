import { expect, test } from 'vitest';
import { CfnError, STATUS_ENTRIES_MAX, type SignedManifest } from '../proto/index.ts';
import type { WorkerStatus } from '../proto/grpc.ts';
import type { AdmittedWorker } from './registry.ts';
import { router, type Route } from './router.ts';
import { fleet, type Fleet } from './routing/fleet.ts';
import { seededRandom } from './routing/random.ts';
import { BUNDLE, modelManifest, signedFunction } from './testkit.ts';
import type { WorkerConnection } from './worker-connection.ts';
import { sha256Hex } from '../proto/index.ts';

interface FakeWorker {
  readonly loads: string[];
  tell: (status: WorkerStatus) => void;
  /** Called before a version is loaded. */
  onLoad: () => void | Promise<void>;
}

/** A router over workers that are functions of the test. */
async function house(workers: readonly string[]) {
  const admitted = new Set<string>();
  const fakes = new Map<string, FakeWorker>();
  const connections = new Map<string, WorkerConnection>();
  let nowMs = 0;
  const signed = new Map<string, SignedManifest>();
  const models = new Map<string, { digest: string; manifest: Uint8Array }>();
  const view: Fleet = fleet({
    registry: { get: (workerId) => (admitted.has(workerId) ? ({ workerId } as AdmittedWorker) : undefined) },
    connection: (workerId) => connections.get(workerId),
    monotonicMs: () => nowMs,
  });
  const routes = router({
    fleet: view,
    store: {
      version: async (version) => {
        const held = signed.get(version);
        return held && { tenant: 'acme', name: 'echo', version, jws: held.jws, bundle: BUNDLE };
      },
      model: async (reference) => models.get(reference),
    },
    random: seededRandom(new Uint8Array(16).fill(7)),
    monotonicMs: () => nowMs,
  });
  function join(workerId: string): FakeWorker {
    const told: ((status: WorkerStatus) => void)[] = [];
    const fake: FakeWorker = { loads: [], tell: (status) => told.at(-1)?.(status), onLoad: () => undefined };
    const connection: Pick<WorkerConnection, 'load' | 'watch'> = {
      async load(jws) {
        const version = [...signed.values()].find((it) => it.jws === jws)?.version ?? '';
        fake.loads.push(version);
        await fake.onLoad();
        return version;
      },
      watch: (onStatus) => {
        told.push(onStatus);
        return { stop: () => undefined };
      },
    };
    connections.set(workerId, connection as WorkerConnection);
    admitted.add(workerId);
    fakes.set(workerId, fake);
    view.joined(workerId);
    return fake;
  }
  for (const worker of workers) join(worker);
  const worker = (id: string): FakeWorker => {
    const found = fakes.get(id);
    if (found === undefined) throw new Error(`no worker ${id}`);
    return found;
  };
  return {
    routes,
    view,
    worker,
    join,
    admitted,
    models,
    pass: (ms: number) => void (nowMs += ms),
    function: async (change: Parameters<typeof signedFunction>[0] = {}): Promise<SignedManifest> => {
      const made = await signedFunction(change);
      signed.set(made.version, made);
      return made;
    },
    idle: (capacity = 10): void => {
      for (const { tell } of fakes.values()) tell({ capacity, memoryFree: 2 ** 30, memoryBudget: 2 ** 30 });
    },
  };
}

const idOf = (route: Route): string => route.worker.workerId;
const turn = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve, 5));

test('concurrent first requests load once, on one worker', async () => {
  const { routes, worker, idle, function: make } = await house(['a', 'b', 'c']);
  idle(100);
  const echo = await make();
  const got = await Promise.all(Array.from({ length: 20 }, () => routes.toAny(echo)));
  expect(new Set(got.map(idOf)).size).toBe(1);
  expect(['a', 'b', 'c'].flatMap((id) => worker(id).loads)).toEqual([echo.version]);
});

test('goes to the less loaded of those that have it, other gateways counted', async () => {
  const { routes, worker, function: make } = await house(['a', 'b', 'c']);
  const echo = await make();
  const versions = [{ version: echo.version }];
  worker('a').tell({ inflight: 9, capacity: 10, versions });
  worker('b').tell({ inflight: 2, capacity: 10, versions });
  worker('c').tell({ capacity: 10 });
  const got = await Promise.all(Array.from({ length: 3 }, () => routes.toAny(echo)));
  expect(got.map(idOf)).toEqual(['b', 'b', 'b']);
  expect(worker('c').loads).toEqual([]);
});

test('a worker that has the models comes before one that has room only', async () => {
  const { routes, worker, models, idle, function: make } = await house(['a', 'b', 'c', 'd', 'e', 'f']);
  const manifest = await modelManifest('acme/m@1', new Uint8Array(3));
  const digest = await sha256Hex(manifest);
  models.set('acme/m@1', { digest, manifest });
  idle();
  worker('e').tell({ capacity: 10, inflight: 3, models: [digest] });
  const echo = await make({ models: [{ binding: 'M', model: 'acme/m@1', digest }] });
  expect(idOf(await routes.toAny(echo))).toBe('e');
});

test('where none has it, it goes where there is memory for it', async () => {
  const { routes, worker, function: make } = await house(['a', 'b', 'c']);
  for (const id of ['a', 'b']) worker(id).tell({ capacity: 10, memoryFree: 1_000, memoryBudget: 2 ** 30 });
  worker('c').tell({ capacity: 10, inflight: 5, memoryFree: 2 ** 30, memoryBudget: 2 ** 30 });
  for (let i = 0; i < 5; i++) {
    const echo = await make({ name: `echo-${i}` });
    expect(idOf(await routes.toAny(echo))).toBe('c');
  }
});

test('when those that have it are busy one more loads it, and nobody waits for that', async () => {
  const { routes, worker, idle, view, function: make } = await house(['a', 'b']);
  idle(4);
  const echo = await make();
  const first = idOf(await routes.toAny(echo));
  const second = first === 'a' ? 'b' : 'a';
  const loaded = Promise.withResolvers<void>();
  worker(second).onLoad = () => loaded.promise;
  expect(idOf(await routes.toAny(echo))).toBe(first);
  expect(idOf(await routes.toAny(echo))).toBe(first); // half of its capacity: busy
  await turn();
  expect(worker(second).loads).toEqual([echo.version]);
  expect(view.view(echo.version).members).toHaveLength(1);
  loaded.resolve();
  await turn();
  expect(idOf(await routes.toAny(echo))).toBe(second);
  expect(view.member(second)?.warm.get(echo.version)?.why).toBe('others were busy');
});

test('where all are full a request waits for one that ends; sealed ones for their own worker', async () => {
  const { routes, idle, function: make } = await house(['a']);
  idle(2);
  const echo = await make();
  const [one, two] = [await routes.toAny(echo), await routes.toWorker('a', echo)];
  const waiting = [routes.toAny(echo), routes.toWorker('a', echo)];
  await turn();
  expect(routes.waiting()).toBe(2);
  one.release();
  two.release();
  expect((await Promise.all(waiting)).map(idOf)).toEqual(['a', 'a']);
  expect(routes.waiting()).toBe(0);
});

test('a request that waits for a worker that leaves is told to seal again', async () => {
  const { routes, idle, view, admitted, function: make } = await house(['a']);
  idle(1);
  const echo = await make();
  await routes.toWorker('a', echo);
  const waiting = expect(routes.toWorker('a', echo)).rejects.toMatchObject({ code: 'CFN_KEY_CONFIG_STALE' });
  await turn();
  admitted.delete('a');
  view.left('a');
  await waiting;
});

test('nothing goes to a worker whose lease is over, that leaves, or that is cordoned', async () => {
  const { routes, worker, view, admitted, function: make } = await house(['a', 'b', 'c', 'd']);
  const echo = await make();
  const versions = [{ version: echo.version }];
  for (const id of ['a', 'b', 'c', 'd']) worker(id).tell({ capacity: 10, versions, leaving: id === 'b' });
  admitted.delete('a');
  view.cordon('c', true);
  const got = await Promise.all(Array.from({ length: 9 }, () => routes.toAny(echo)));
  expect(new Set(got.map(idOf))).toEqual(new Set(['d']));
  expect((await routes.candidates(echo)).map(({ workerId }) => workerId)).toEqual(['d']);
  await expect(routes.toWorker('b', echo)).rejects.toMatchObject({ code: 'CFN_KEY_CONFIG_STALE' });
  admitted.delete('d');
  await expect(routes.toAny(echo)).rejects.toMatchObject({ code: 'CFN_WORKER_UNAVAILABLE' });
});

test('nothing goes to a worker that is cordoned, leaves, or is another one, once its turn or the version has come', async () => {
  const { routes, worker, join, idle, view, admitted, function: make } = await house(['a']);
  const cordon = (cordoned: boolean): void => view.cordon('a', cordoned);
  idle(1);
  const echo = await make();
  const route = await routes.toWorker('a', echo);
  const waiting = [routes.toWorker('a', echo), routes.toAny(echo)].map((it) =>
    it.catch((cause: CfnError) => cause.code),
  );
  await turn();
  cordon(true);
  route.release();
  expect(await waiting[0]).toBe('CFN_KEY_CONFIG_STALE');
  expect([routes.waiting(), view.member('a')?.inflight]).toEqual([1, 0]);
  cordon(false);
  const served = (await waiting[1]) as Route;
  expect(idOf(served)).toBe('a');
  served.release();

  const during = async (change: () => void): Promise<unknown> => {
    const signed = await make({ name: `f-${worker('a').loads.length}` });
    worker('a').onLoad = change;
    return routes.toWorker('a', signed).catch((cause: CfnError) => cause.code);
  };
  expect(await during(() => cordon(true))).toBe('CFN_KEY_CONFIG_STALE');
  cordon(false);
  expect(await during(() => worker('a').tell({ capacity: 1, leaving: true }))).toBe('CFN_KEY_CONFIG_STALE');
  worker('a').tell({ capacity: 1 });
  const rejoin = (): void => {
    admitted.delete('a');
    view.left('a');
    join('a');
  };
  expect(await during(rejoin)).toBe('CFN_KEY_CONFIG_STALE');
  expect(view.member('a')?.inflight).toBe(0);
});

test('a cordon outlives the session of a worker', async () => {
  const { routes, join, idle, view, admitted, function: make } = await house(['a']);
  idle();
  view.cordon('a', true);
  admitted.delete('a');
  view.left('a');
  join('a');
  await expect(routes.toWorker('a', await make())).rejects.toMatchObject({ code: 'CFN_KEY_CONFIG_STALE' });
  view.cordon('a', false);
  expect(idOf(await routes.toWorker('a', await make()))).toBe('a');
});

test('who waits is served as soon as one more worker has the version', async () => {
  const { routes, worker, idle, function: make } = await house(['a', 'b']);
  idle(1);
  const echo = await make();
  const loaded = Promise.withResolvers<void>();
  const first = idOf(await routes.toAny(echo));
  const second = first === 'a' ? 'b' : 'a';
  worker(second).onLoad = () => loaded.promise;
  const waiting = routes.toAny(echo);
  await turn();
  loaded.resolve();
  expect(idOf(await waiting)).toBe(second);
});

test('a worker in trouble is passed over for another; what is broken everywhere is said at once', async () => {
  const { routes, worker, idle, function: make } = await house(['a', 'b']);
  idle();
  const [trouble, broken] = [new CfnError('CFN_BUSY', 'full'), new CfnError('CFN_FUNCTION_INVALID', 'no handler')];
  worker('a').onLoad = () => Promise.reject(trouble);
  for (let i = 0; i < 4; i++) expect(idOf(await routes.toAny(await make({ name: `f-${i}` })))).toBe('b');
  worker('b').onLoad = () => Promise.reject(broken);
  worker('a').onLoad = () => Promise.reject(broken);
  const echo = await make({ name: 'broken' });
  await expect(routes.toAny(echo)).rejects.toMatchObject({ code: 'CFN_FUNCTION_INVALID' });
});

test('a version that left a worker for idleness is loaded anew', async () => {
  const { routes, worker, idle, pass, function: make } = await house(['a']);
  idle();
  const echo = await make();
  (await routes.toAny(echo)).release();
  worker('a').tell({ capacity: 10, versions: [] }); // was on its way while the version was loaded: no news
  (await routes.toAny(echo)).release();
  expect(worker('a').loads).toHaveLength(1);
  pass(60_000);
  worker('a').tell({ capacity: 10, versions: [] });
  (await routes.toAny(echo)).release();
  expect(worker('a').loads).toHaveLength(2);
});

test('a status out of its bounds steers nothing', async () => {
  const { worker, view } = await house(['a']);
  worker('a').tell({ capacity: 0 });
  worker('a').tell({ capacity: 5, versions: [{ version: 'not a digest' }] });
  worker('a').tell({ capacity: 5, models: Array.from({ length: 2_000 }, () => '0'.repeat(64)) });
  expect(view.member('a')?.hint).toBeUndefined();
});

test('a worker that makes up versions fills no memory', async () => {
  const { routes, worker, idle, pass, view, function: make } = await house(['a']);
  idle();
  const echo = await make();
  (await routes.toAny(echo)).release();
  pass(60_000);
  for (let round = 0; round < 30; round++) {
    const versions = Array.from({ length: STATUS_ENTRIES_MAX }, (_, i) => ({
      version: (round * STATUS_ENTRIES_MAX + i).toString(16).padStart(64, '0'),
    }));
    worker('a').tell({ capacity: 10, versions });
  }
  expect(view.member('a')?.warm.size).toBe(STATUS_ENTRIES_MAX + 1);
  expect(view.member('a')?.warm.has(echo.version)).toBe(true); // a full list leaves others out
});

test('few workers take the requests of a function that few call, so that the others fall idle', async () => {
  const ids = Array.from({ length: 50 }, (_, i) => `w${String(i).padStart(2, '0')}`);
  const { routes, worker, function: make } = await house(ids);
  const echo = await make();
  for (const id of ids) worker(id).tell({ capacity: 10, versions: [{ version: echo.version }] });
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const route = await routes.toAny(echo);
    seen.add(idOf(route));
    route.release();
  }
  expect(seen).toEqual(new Set(['w00', 'w01']));
  const many = await Promise.all(Array.from({ length: 200 }, () => routes.toAny(echo)));
  expect(new Set(many.map(idOf)).size).toBeGreaterThan(30);
  expect(await routes.candidates(echo)).toHaveLength(32); // the document stays small
});
