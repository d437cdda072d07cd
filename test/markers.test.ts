import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn } from '../cli/testkit.ts';
import { confidentialFetch } from '../client/index.ts';
import { otlpCollector, parseMetrics, type Collector } from '../gateway/telemetry.testkit.ts';
import { startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';
import { makeMarker, type Marker } from './wipe/marker.ts';
import { invoke, OUTCOMES, SOURCE, type Outcome } from './wipe/outcomes.ts';
import { searchRecords } from './wipe/search.ts';

// Design §9: markers go by every path, and are then looked for in all that gateway, KMS and worker print, keep, count and trace. What
// is left in memory is for test/wipe; metrics and spans of the throwaway kind are held to their list in gateway/telemetry.test.ts.

let system: TestSystem;
let collector: Collector;
let project: string;
const sent: [string, Marker][] = [];

beforeAll(async () => {
  collector = await otlpCollector();
  system = await startTestSystem({ gatewayArgs: [`--trace-url=${collector.url}`, '--trace-ratio=1'] });
  const digest = await system.push('demo/vad@5', VAD_MODEL);
  await system.grant(digest, 'demo/wiped');
  await system.deploy('wiped', SOURCE, {
    models: [{ binding: 'VAD', model: 'demo/vad@5', digest }],
    limits: { cpuMs: 600, wallMs: 1_500, memoryMb: 64 },
  });
  project = mkdtempSync(join(tmpdir(), 'cfn-markers-'));
  mkdirSync(join(project, 'src'));
  mkdirSync(join(project, '.cfn'), { mode: 0o700 });
  writeFileSync(join(project, '.cfn/config.json'), JSON.stringify(system.local.config), { mode: 0o600 });
  writeFileSync(
    join(project, 'wrangler-style.toml'),
    'name = "keeper"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n[secrets]\nrequired = ["API_KEY"]\n[caller]\nplaintext = true\n',
  );
  writeFileSync(
    join(project, 'src/index.ts'),
    `export default {
       async fetch(_request: Request, env: { API_KEY: string }) {
         console.log(env.API_KEY);
         console.error(new Error(env.API_KEY));
         await fetch('https://' + env.API_KEY + '.example/').catch(() => {});
         throw new Error(env.API_KEY);
       },
     };`,
  );
}, 120_000);
afterAll(async () => {
  await system.stop();
  collector.close();
  rmSync(project, { recursive: true, force: true });
});

/** A marker of its own for each path, so that one that is found says where it came from. */
function mark(path: string): string {
  const marker = makeMarker();
  sent.push([path, marker]);
  return marker.text;
}

describe('INV-33 INV-11 markers go by', () => {
  test.each(OUTCOMES.map((outcome): [Outcome] => [outcome]))(
    'open mode: %s',
    async (outcome) => {
      await invoke(system, outcome, mark(`open, ${outcome}`), 50);
    },
    60_000,
  );

  test.each(['success', 'exception', 'timeout'] as const)(
    'a sealed call: %s',
    async (outcome) => {
      const text = mark(`sealed, ${outcome}`);
      const call = await confidentialFetch({
        endpoint: system.local.gatewayUrl,
        function: `${system.local.config.tenant}/wiped`,
        policy: system.policy,
      });
      const reply = await call(`/${text}?q=${text}`, {
        method: 'POST',
        body: text.repeat(10),
        headers: { 'x-marker': text, 'x-outcome': outcome },
      });
      expect((await reply.text()).includes(text)).toBe(outcome === 'success');
    },
    30_000,
  );

  test('what goes before a call: fields of traces, of the caller, of what is no call at all', async () => {
    const text = mark('fields');
    const { gatewayUrl, config } = system.local;
    const fields = {
      traceparent: `00-${text}`,
      tracestate: `a=${text}`,
      baggage: `a=${text}`,
      cookie: text,
      'user-agent': text,
    };
    const sealed = { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': text };
    for (const [path, headers] of [
      [`/f/${config.tenant}/wiped/${text}`, { ...fields, 'x-marker': text }],
      [`/f/${config.tenant}/wiped/`, sealed],
      [`/f/${config.tenant}/wiped/`, { ...sealed, 'cfn-worker': system.local.worker().ready.workerId }],
      [`/f/${text}/${text}/`, fields],
      [`/${text}`, fields],
      [`/.well-known/cfn/attestation?function=${text}&nonce=${text}`, fields],
      ['/v1/tenants', { authorization: `Bearer ${text}` }],
    ] as const)
      await (await fetch(gatewayUrl + path, { method: 'POST', body: text, headers })).arrayBuffer();
    await system.control('POST', '/v1/tenants', { name: text, [text]: text });
    await system.kms('POST', '/v1/release', { challenge: text, [text]: text });
    await fetch(`${system.local.kmsUrl}/v1/models/${text}`, { headers: { authorization: `Bearer ${text}` } });
  });

  test('a secret: put, logged, thrown, and fetched by its function', async () => {
    const text = mark('a secret');
    const cfn = (args: string[], input?: string) =>
      runCfn(args, { cwd: project, ...(input === undefined ? {} : { input }) });
    expect((await cfn(['secret', 'put', 'API_KEY'], `${text}\n`)).code).toBe(0);
    expect((await cfn(['deploy'])).code).toBe(0);
    expect(await (await system.call('keeper')).text()).toContain('CFN_FUNCTION_THREW');
  }, 60_000);

  test('a worker that is killed in the middle', async () => {
    const text = mark('a crash');
    const call = fetch(`${system.local.gatewayUrl}/f/demo/wiped/`, {
      method: 'POST',
      body: text,
      headers: { 'x-marker': text, 'x-outcome': 'timeout' },
    }).then((reply) => reply.text());
    await new Promise((resolve) => setTimeout(resolve, 300));
    process.kill(system.local.worker().pid, 'SIGKILL');
    await call.catch(() => undefined);
    await system.local.startWorker();
  }, 30_000);
});

test('INV-33 and are found nowhere: not in files, prints, metrics or traces', async () => {
  const scrape = async (): Promise<string> => (await fetch(`${system.local.adminUrl}/metrics`)).text();
  await invoke(system, 'success', mark('open, after the crash'), 1);
  // There is something to look through: the worker's own numbers, and spans of each step.
  await expect
    .poll(
      async () =>
        parseMetrics(await scrape()).find(
          ({ name, labels }) => name === 'cfn_worker_requests_total' && labels['outcome'] === 'ok',
        )?.value,
      { timeout: 30_000, interval: 500 },
    )
    .toBeGreaterThan(0);
  const steps = (): string[] => collector.spans().map(({ name }) => name);
  await expect
    .poll(steps, { timeout: 30_000, interval: 500 })
    .toEqual(expect.arrayContaining(['cfn.request', 'cfn.worker.open', 'cfn.worker.run', 'cfn.worker.wipe']));
  const numbers = new Map(parseMetrics(await scrape()).map(({ name, value }) => [name, value]));
  for (const name of [
    'cfn_worker_engine_calls_total',
    'cfn_worker_sandboxes',
    'cfn_worker_leases',
    'cfn_worker_memory_bytes',
  ])
    expect(numbers.get(name), name).toBeGreaterThan(0);

  expect(sent.length).toBeGreaterThan(OUTCOMES.length);
  for (const [path, { forms }] of sent)
    expect(await searchRecords(system, Object.values(forms), collector.raw), path).toEqual([]);

  const control = makeMarker();
  expect(await searchRecords(system, Object.values(control.forms), [Buffer.from(control.text)])).toEqual(['traces']);
}, 90_000);
