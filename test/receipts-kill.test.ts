import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { appraiseDocument, fetchAttestation, sealRequest } from '../client/index.ts';
import { startService, type ServiceProcess } from '../deploy/service-process.ts';
import { microseconds, type Receipt } from '../proto/index.ts';
import { startTestSystem, type TestSystem } from './local-system.ts';

/** Processes that are killed while they answer, at random moments: whoever was answered is in the ledger once. */

const QUICK = 'export default { fetch: async (r) => new Response(`you said ${await r.text()}`) }';
/** Whom each round kills. */
const ROUNDS = ['gateway', 'worker', 'gateway', 'worker', 'gateway'] as const;

let system: TestSystem;
let version = '';
let gateway: Pick<ServiceProcess<unknown>, 'kill' | 'stop' | 'exited'>;
beforeAll(async () => {
  system = await startTestSystem();
  gateway = system.local.gateway;
  version = await system.deploy('quick', QUICK);
});
afterAll(async () => {
  await gateway?.stop();
  await system?.stop();
});

/** Where it was, on what it has; the worker goes on meanwhile. */
async function restartGateway(): Promise<void> {
  const { port } = new URL(system.local.gatewayUrl);
  gateway = await startService({
    name: 'gateway',
    entry: new URL('../gateway/main.ts', import.meta.url),
    args: [
      `--state=${join(system.stateDir, 'gateway')}`,
      `--listen=127.0.0.1:${port}`,
      `--policy=${join(system.stateDir, 'policy.json')}`,
    ],
    onLog: (line) => void system.logs.push(`gateway: ${line}`),
  });
}

function ledger(): { receipts: Receipt[]; sums: Record<string, number> } {
  const database = new DatabaseSync(join(system.stateDir, 'gateway/gateway.sqlite'), { readOnly: true });
  try {
    const rows = database.prepare('SELECT jws FROM receipts').all() as { jws: string }[];
    const sums = database
      .prepare('SELECT sum(requests) AS requests, sum(cpu_us) AS cpu, sum(request_bytes) AS bytes FROM function_usage')
      .get() as Record<string, number>;
    return { receipts: rows.map(({ jws }) => decodeJwt(jws) as unknown as Receipt), sums: { ...sums } };
  } finally {
    database.close();
  }
}

test('INV-42 the sum over receipts is the sum over answered requests, whichever process is killed', async () => {
  const answered = new Set<string>();
  let [attempts, sealed] = [0, 0];
  let kill: (() => void) | undefined;
  /** The moment that matters: somebody has an answer, and no disk has its receipt yet. */
  const onAnswer = (id: string): void => {
    answered.add(id);
    kill?.();
    kill = undefined;
  };
  let over = false;
  /** Open mode: the answer is whole, and its receipt was checked by the gateway. */
  async function openCaller(): Promise<void> {
    while (!over) {
      attempts++;
      await system
        .call('quick', { method: 'POST', body: 'x'.repeat(attempts % 50), signal: AbortSignal.timeout(10_000) })
        .then(async (answer) => {
          const text = await answer.text();
          if (answer.status !== 200) throw new Error(text);
          onAnswer(answer.headers.get('cfn-request-id') ?? '');
        })
        .catch(() => sleep(50));
    }
  }
  async function sealedCaller(): Promise<void> {
    while (!over) await sealedCalls().catch(() => sleep(50));
  }
  /** To one worker, until a call fails. */
  async function sealedCalls(): Promise<void> {
    const endpoint = system.local.gatewayUrl;
    const document = await fetchAttestation({ endpoint, function: 'demo/quick', fetch });
    const { workers } = await appraiseDocument(document, { policy: system.policy, now: new Date() });
    const worker = [...workers.values()].at(-1);
    if (worker === undefined) throw new Error('no worker');
    while (!over) {
      const exchange = await sealRequest({
        workerKeys: worker.workerKeys,
        workerId: worker.workerId,
        version,
        now: new Date(),
        request: { method: 'POST', authority: 'gateway', path: '/', headers: [], body: Buffer.from('sealed') },
      });
      const parts: Uint8Array[] = [];
      for await (const part of exchange.body) parts.push(part);
      attempts++;
      const reply = await fetch(`${endpoint}/f/demo/quick/`, {
        method: 'POST',
        headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': worker.workerId },
        body: Buffer.concat(parts),
        signal: AbortSignal.timeout(10_000),
      });
      if (reply.status !== 200 || reply.body === null) throw new Error(`${reply.status}`);
      const answer = await exchange.open(reply.body);
      for await (const piece of answer.body) void piece;
      sealed++;
      onAnswer((await answer.receipt).receipt.id);
    }
  }
  const callers = [openCaller(), openCaller(), sealedCaller()];
  for (const victim of ROUNDS) {
    const before = answered.size;
    await expect.poll(() => answered.size, { timeout: 30_000 }).toBeGreaterThan(before + 5);
    const killed = victim === 'gateway' ? gateway : system.local.worker();
    await sleep(Math.random() * 60);
    kill = () => void setTimeout(() => killed.kill('SIGKILL'), Math.random() * 5);
    await killed.exited;
    await (victim === 'gateway' ? restartGateway() : system.local.startWorker());
  }
  over = true;
  await Promise.all(callers);

  const missing = (): string[] => {
    const held = new Set(ledger().receipts.map(({ id }) => id));
    return [...answered].filter((id) => !held.has(id));
  };
  await expect.poll(missing, { timeout: 15_000, interval: 500 }).toEqual([]);
  await sleep(3_000); // what calls that broke off left with the worker comes, too
  expect(sealed).toBeGreaterThan(0);
  const { receipts, sums } = ledger();
  expect(new Set(receipts.map(({ id }) => id)).size).toBe(receipts.length);
  expect(receipts.length).toBeGreaterThanOrEqual(answered.size);
  expect(receipts.length).toBeLessThanOrEqual(attempts);
  expect(sums).toEqual({
    requests: receipts.length,
    cpu: receipts.reduce((sum, { usage }) => sum + microseconds(usage.cpuMs), 0),
    bytes: receipts.reduce((sum, { request }) => sum + request.bytes, 0),
  });
}, 120_000);
