import { lookup } from 'node:dns/promises';
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Attester } from '../../attestation/attester/index.ts';
import type { BlobStore } from '../../artifacts/index.ts';
import { describeLayers, openJail, requireEveryLayer } from '../jail/index.ts';
import { buildSandboxCode } from '../sandbox/sandbox-code.ts';
import { isPublicAddress } from './egress/address.ts';
import type { EgressDeps } from './egress/session.ts';
import { startEngine } from './engine-process.ts';
import { evidenceSource } from './evidence-source.ts';
import { functionHost } from './function-host.ts';
import { serveWorker } from './grpc-server.ts';
import { invoker } from './invoke.ts';
import { byService, kbsClient } from './kbs-client.ts';
import { keyClient } from './key-client.ts';
import { makeWorkerKeys } from './keys.ts';
import { dropReports } from './drop-reports.ts';
import { leaseWatch } from './lease-watch.ts';
import { modelHost } from './model-host.ts';
import { receiptBook } from './receipts.ts';
import { replayGuard } from './replay-guard.ts';
import { prepareSandbox } from './sandbox-process.ts';
import { secretHost } from './secret-host.ts';
import { spareProcess } from './spare-process.ts';
import { workerMetrics } from './worker-metrics.ts';
import { statusSource } from './status.ts';

export interface WorkerOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** The one client certificate that may connect. */
  readonly gatewayCertificatePem: string;
  readonly attester: Attester;
  /** Where ciphertext of models is fetched. */
  readonly blobs: BlobStore;
  readonly now: () => Date;
  /** ms, for measuring how long things take. */
  readonly monotonicMs: () => number;
  /** ms; a host that sets the wall clock back does not stretch a lease. See `lease-clock.ts`. */
  readonly leaseClockMs: () => number;
  /** `required`: every layer of the jail, or the worker does not start. `available`: what this machine has. */
  readonly jail: JailPolicy;
  readonly fetch: typeof fetch;
  /** `inherit` shows what engine and sandbox processes print, which can hold request data: never in production. */
  readonly childStderr: 'ignore' | 'inherit';
  /** How functions reach the hosts of their manifests. Default: the resolver of the machine, public addresses only, Node's trust anchors. */
  readonly egress?: EgressDeps;
  /** Requests at once. */
  readonly capacity: number;
  /** A function version that nobody called for so long leaves, with its engines and leases, ms. */
  readonly idleMs: number;
  /** What sandboxes and engines may need together, in bytes. */
  readonly memoryBytes: number;
  readonly log: (event: string, fields?: Readonly<Record<string, string | number>>) => void;
}

/** How long a worker that stops waits for its last receipts to be acknowledged, in ms. */
const LAST_RECEIPTS_MS = 800;

export type JailPolicy = 'required' | 'available';

export interface Worker {
  readonly address: string;
  readonly workerId: string;
  /** Which layers of the jail are in force, in one line. */
  readonly jail: string;
  stop(): Promise<void>;
}

/**
 * Starts the agent: keys, evidence, models, functions, and the one way in (design §4, §7).
 *
 * @throws {CfnError} `CFN_JAIL_INCOMPLETE` where a layer of the jail is required and missing
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const code = buildSandboxCode(); // needed by the first sandbox only, and takes longer than the rest
  code.catch(() => undefined);
  const jail = await openJail();
  if (options.jail === 'required') requireEveryLayer(jail.layers);
  const socketDir = mkdtempSync(join(tmpdir(), 'cfn-')); // mode 0700
  const child = { jail, socketDir, stderr: options.childStderr };
  // Made while keys and evidence are, and before anybody deploys.
  const engines = spareProcess(() => startEngine(child));
  const sandboxes = spareProcess(async () => prepareSandbox(await code, child));
  engines.prepare();
  sandboxes.prepare();
  const keys = await makeWorkerKeys(options.now());
  const evidence = evidenceSource(options.attester, keys.document);
  const kmsClient = keyClient({ ...options, evidence, workerId: keys.workerId, receiptKey: keys.receipt });
  const keyChannel = byService(kmsClient, kbsClient({ ...options, evidence }));
  const kmsDeps = { ...options, keys: keyChannel };
  const leaseDeps = { ...kmsDeps, watch: leaseWatch(kmsDeps), drops: dropReports(kmsDeps) };
  const models = modelHost({ ...leaseDeps, spares: engines });
  const receipts = receiptBook(keys.receipt, options.leaseClockMs);
  const lastReceipts = new AbortController();
  const functions = functionHost(models, secretHost({ ...leaseDeps, keys: kmsClient }), sandboxes, {
    ...options,
    monotonicMs: options.leaseClockMs,
  });
  const metrics = workerMetrics(() => ({
    sandboxes: functions.pids().length,
    engines: models.pids().length,
    leases: models.leases(),
    memoryBytes: process.memoryUsage.rss(),
  }));
  const invocations = invoker({
    metrics,
    monotonicMs: options.monotonicMs,
    keys,
    evidence,
    functions,
    refuseReplay: replayGuard(options.now),
    receipts,
    now: options.now,
    capacity: options.capacity,
    egress: options.egress ?? { resolve: (host) => lookup(host, { all: true }), isAllowedAddress: isPublicAddress },
  });
  const status = statusSource({
    functions,
    models,
    invoker: invocations,
    capacity: options.capacity,
    monotonicMs: options.leaseClockMs,
  });
  const server = await serveWorker(options.listen, {
    ...options,
    keys,
    evidence,
    functions,
    metrics,
    status,
    invoker: invocations,
    receipts,
    lastReceipts: lastReceipts.signal,
  });
  await code; // without it there is no worker
  const layers = describeLayers(jail.layers);
  options.log('worker.ready', { worker: keys.workerId, tee: evidence.tee, jail: layers });
  return {
    address: server.address,
    workerId: keys.workerId,
    jail: layers,
    async stop() {
      status.leave();
      await receipts.settled(LAST_RECEIPTS_MS);
      lastReceipts.abort();
      await server.stop();
      functions.close();
      await models.close();
      rmSync(socketDir, { recursive: true, force: true });
    },
  };
}

/** One JSON object a line on standard error; fields are names, codes and digests, never payload. */
export function jsonLog(now: () => Date): WorkerOptions['log'] {
  return (event, fields) => void writeSync(2, `${JSON.stringify({ at: now().toISOString(), event, ...fields })}\n`);
}
