import type { Server } from 'node:http';
import { createAdaptorServer, type HttpBindings } from '@hono/node-server';
import { policyDigest, type AppraisalPolicy } from '../attestation/verifier/index.ts';
import { apiKeys } from './access/api-keys.ts';
import { callers } from './access/callers.ts';
import { issuers, type IssuersFile } from './access/issuers.ts';
import { admission } from './admission.ts';
import { adminApp, gatewayApp } from './app.ts';
import { batches } from './batches.ts';
import { openBlobFolder } from './blob-folder.ts';
import { catalogue } from './catalogue.ts';
import { operatorConsent, type ConsentDefault } from './consent.ts';
import { ledger } from './ledger.ts';
import { joinFleet } from './fleet/fleet.ts';
import { sharedWorkers } from './fleet/shared-workers.ts';
import { DRAIN_MS_MAX, HEAD_MS_MAX } from './limits.ts';
import type { Log } from './log.ts';
import { metrics, type Gauges } from './metrics.ts';
import { openBook } from './quota/open-book.ts';
import { quotas } from './quota/quotas.ts';
import { receiptChains } from './receipt-chains.ts';
import { receiptFeeds } from './receipt-feed.ts';
import { memoryRegistry, type Registry } from './registry.ts';
import { rolloutWatch } from './rollout-watch.ts';
import { router } from './router.ts';
import { capacityOf, fleet, loadOf, type Fleet, type Member } from './routing/fleet.ts';
import { seededRandom } from './routing/random.ts';
import { sqliteStore } from './store/index.ts';
import { openState } from './state.ts';
import { NO_TRACING, type Tracing, type TracingOptions } from './tracing.ts';
import { parseAddress, workerConnector } from './worker-connection.ts';
import { workerMetrics } from './worker-metrics.ts';

export interface GatewayOptions {
  readonly stateFolder: string;
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  readonly admin: string;
  readonly policy: AppraisalPolicy;
  /** Workers to admit, and to keep trying. */
  readonly workers: readonly string[];
  /** What counts where the operator has said nothing of a function or model. */
  readonly admit: ConsentDefault;
  readonly leaseMs: number;
  /** Identity providers whose tokens are taken. */
  readonly issuers?: IssuersFile;
  /** Left out: no traces. */
  readonly traces?: TracingOptions | undefined;
  /** URL of the Redis that several gateways share; without one, this gateway keeps its state in its folder. */
  readonly redisUrl?: string | undefined;
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
}

export interface RunningGateway {
  readonly url: string;
  readonly adminUrl: string;
  /** Takes no new request, lets those under way end, writes what is to be written. */
  stop(): Promise<void>;
}

/** One gateway: state, registry, admission, two listeners. */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { policy, now, monotonicMs, randomBytes, log } = options;
  const state = await openState(options.stateFolder, options);
  const blobs = await openBlobFolder(state.blobFolder, now);
  const policyName = { name: policy.name, digest: await policyDigest(policy) };
  let followWorkers = (): void => {};
  const shared =
    options.redisUrl === undefined
      ? undefined
      : await joinFleet({ ...options, url: options.redisUrl, onWorkers: () => followWorkers() });
  const store = shared?.store ?? sqliteStore(state.databasePath);

  const view: Fleet = fleet({
    registry: { get: (workerId) => registry.get(workerId) },
    connection: (workerId) => admitting.connection(workerId),
    monotonicMs,
  });
  const registry = followed(memoryRegistry(monotonicMs), view);
  const gauges = (): Gauges => {
    const serving = view.members().filter((member) => view.admitted(member) !== undefined);
    const sum = (of: (member: Member) => number): number => serving.reduce((total, member) => total + of(member), 0);
    return { waiting: gateway.router.waiting(), inflight: sum(loadOf), capacity: sum(capacityOf) };
  };
  const counted = metrics(registry, gauges, () => told.samples());
  const feeds = receiptFeeds((jws, worker) => receipts.collect(jws, worker));
  const chains = receiptChains({ store, log, monotonicMs, onGap: (missing) => counted.receiptGap(missing) });
  const receipts = ledger({
    store,
    now,
    log,
    acknowledge: (workerId, sequences) => feeds.acknowledge(workerId, sequences),
    onWritten: (entries) => chains.added(entries),
    onOutcome: (outcome) => counted.receipt(outcome),
    onReceipt: ({ function: ran, outcome, usage, request, response }) => {
      rollouts.ended(ran.version, outcome);
      limits.add(ran.tenant, { engineMs: usage.engineMs, bytes: request.bytes + response.bytes });
    },
  });
  const admitting = admission({
    feeds,
    policy,
    resultSigner: state.resultSigner,
    registry,
    store,
    now,
    monotonicMs,
    randomBytes,
    log,
    connect: workerConnector(state.clientCertificate, now),
    leaseMs: options.leaseMs,
    onOutcome: (outcome) => counted.admission(outcome),
  });
  const keys = apiKeys({ store, now, randomBytes, log });
  const book = openBook({ redis: shared?.redis, monotonicMs, store });
  const limits = quotas({
    store,
    ...book,
    now,
    monotonicMs,
    randomBytes,
    log,
  });
  const told = workerMetrics({ registry, admission: admitting, log });
  const random = seededRandom(randomBytes(16));
  const rollouts = rolloutWatch({
    store,
    fleet: view,
    monotonicMs,
    now,
    log,
    onStop: (reason) => counted.rolloutStopped(reason),
  });
  const tracing = await tracingOf(options);
  const gateway = {
    store,
    servesWithoutStore: () => shared?.isCurrent() === true,
    blobs,
    registry,
    now,
    monotonicMs,
    randomBytes,
    log,
    admission: admitting,
    catalogue: catalogue(store),
    consent: operatorConsent(store, options.admit),
    fleet: view,
    router: router({
      fleet: view,
      store,
      monotonicMs,
      random,
      onLoad: (outcome) => counted.load(outcome),
      onShed: () => counted.shed(),
    }),
    rollouts,
    random,
    quotas: limits,
    ledger: receipts,
    batches: batches({ store, signer: state.batchSigner, now, log }),
    metrics: counted,
    tracing,
    tokens: state.tokens,
    keys,
    callers: callers({
      tokens: state.tokens,
      keys,
      issuers: issuers(options.issuers ?? { issuers: [] }, { now, monotonicMs, fetch: globalThis.fetch }),
    }),
    resultKey: state.resultSigner.publicJwk,
    policy: policyName,
  };

  const main = await listen(gatewayApp(gateway).fetch, options.listen);
  const admin = await listen(adminApp(gateway).fetch, options.admin);
  for (const address of options.workers) admitting.keep(address);
  const workers = sharedWorkers({ admission: admitting, store, own: options.workers, log });
  followWorkers = () => workers.follow();
  workers.follow();

  return {
    url: main.url,
    adminUrl: admin.url,
    async stop() {
      await Promise.all([close(main.server), close(admin.server)]);
      blobs.close();
      told.stop();
      view.stop();
      workers.stop();
      await receipts.flush(); // while workers can still be told
      await admitting.stop();
      await receipts.flush();
      limits.stop();
      chains.stop();
      await gateway.batches.stop();
      await tracing.stop();
      await store.close();
    },
  };
}

/** A registry whose changes the fleet's view follows. */
function followed(registry: Registry, view: Fleet): Registry {
  return {
    ...registry,
    admit(worker) {
      registry.admit(worker);
      view.joined(worker.workerId);
    },
    remove(workerId) {
      registry.remove(workerId);
      view.left(workerId);
    },
  };
}

async function tracingOf({ traces, ...clocks }: GatewayOptions): Promise<Tracing> {
  if (traces === undefined) return NO_TRACING;
  const { openTracing } = await import('./otlp-tracing.ts');
  return openTracing(traces, clocks);
}

type Fetch = (request: Request, env: HttpBindings) => Response | Promise<Response>;

function listen(fetch: Fetch, address: string): Promise<{ server: Server; url: string }> {
  const { host, port } = parseAddress(address);
  // The adaptor would replace the global Request and Response of the whole process; only its own are needed.
  const server = createAdaptorServer({
    fetch: fetch as never,
    overrideGlobalObjects: false,
    // An upload of a model may take hours; slow calls are cut by their deadline.
    serverOptions: { requestTimeout: 0, headersTimeout: HEAD_MS_MAX, connectionsCheckingInterval: HEAD_MS_MAX / 2 },
  }) as Server;
  // What headersTimeout counts from is the first byte.
  server.on('connection', (socket) => {
    const silent = setTimeout(() => void (socket.bytesRead === 0 && socket.destroy()), HEAD_MS_MAX);
    socket.once('close', () => clearTimeout(silent));
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      const bound = server.address();
      const boundPort = typeof bound === 'object' && bound !== null ? bound.port : port;
      resolve({ server, url: `http://${host.includes(':') ? `[${host}]` : host}:${boundPort}` });
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), DRAIN_MS_MAX);
    server.close(() => {
      clearTimeout(timer);
      resolve();
    });
    server.closeIdleConnections();
  });
}
