import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Attester } from '../../attestation/attester/index.ts';
import type { BlobStore } from '../../artifacts/index.ts';
import { buildPlatformSource } from '../sandbox/platform-source.ts';
import { startEngine } from './engine-process.ts';
import { evidenceSource } from './evidence-source.ts';
import { functionHost } from './function-host.ts';
import { serveWorker } from './grpc-server.ts';
import { invoker } from './invoke.ts';
import { keyClient } from './key-client.ts';
import { makeWorkerKeys } from './keys.ts';
import { modelHost } from './model-host.ts';
import { receiptChain } from './receipts.ts';
import { replayGuard } from './replay-guard.ts';
import { prepareSandbox } from './sandbox-process.ts';
import { spareProcess } from './spare-process.ts';

export interface WorkerOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** The one client certificate that may connect. */
  readonly gatewayCertificatePem: string;
  readonly attester: Attester;
  /** Where ciphertext of models is fetched. */
  readonly blobs: BlobStore;
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly fetch: typeof fetch;
  /** `inherit` shows what engine and sandbox processes print, which can hold request data: never in production. */
  readonly childStderr: 'ignore' | 'inherit';
  readonly log: (event: string, fields?: Readonly<Record<string, string | number>>) => void;
}

export interface Worker {
  readonly address: string;
  readonly workerId: string;
  stop(): Promise<void>;
}

/** Starts the agent: keys, evidence, models, functions, and the one way in (design §4, §7). */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  // Made while keys and evidence are, and before anybody deploys.
  const engines = spareProcess(() => startEngine({ stderr: options.childStderr }));
  const platform = buildPlatformSource();
  const sandboxes = spareProcess(async () => prepareSandbox(await platform, { stderr: options.childStderr }));
  engines.prepare();
  sandboxes.prepare();
  const keys = await makeWorkerKeys(options.now());
  const evidence = evidenceSource(options.attester, keys.document);
  const socketDir = mkdtempSync(join(tmpdir(), 'cfn-')); // mode 0700
  const keyChannel = keyClient({ ...options, evidence, workerId: keys.workerId, receiptKey: keys.receipt });
  const models = modelHost({ ...options, keys: keyChannel, socketDir, spares: engines });
  const functions = functionHost(models, sandboxes);
  const invoke = invoker({
    keys,
    evidence,
    functions,
    refuseReplay: replayGuard(options.now),
    sign: receiptChain(keys.receipt),
    now: options.now,
  });
  const server = await serveWorker(options.listen, { ...options, keys, evidence, functions, invoke });
  options.log('worker.ready', { worker: keys.workerId, tee: evidence.tee });
  return {
    address: server.address,
    workerId: keys.workerId,
    async stop() {
      await server.stop();
      functions.close();
      models.close();
      rmSync(socketDir, { recursive: true, force: true });
    },
  };
}

/** One JSON object a line on standard error; fields are names, codes and digests, never payload. */
export function jsonLog(now: () => Date): WorkerOptions['log'] {
  return (event, fields) => void writeSync(2, `${JSON.stringify({ at: now().toISOString(), event, ...fields })}\n`);
}
