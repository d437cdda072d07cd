import { afterEach, describe, expect, test } from 'vitest';
import { confidentialFetch } from '../client/index.ts';
import { metrics } from './metrics.ts';
import type { RunningGateway } from './service.ts';
import { METRICS, SPANS, isListed, workerLabel, WORKERS_LABELLED_MAX, type MetricName } from './telemetry-names.ts';
import { otlpCollector, parseMetrics, type Collector, type SeenSample, type SeenSpan } from './telemetry.testkit.ts';
import { openHouse, signedFunction, type House } from './testkit.ts';
import { workerMetrics, type WorkerMetrics } from './worker-metrics.ts';
import type { ThrowawayOptions } from './worker.testkit.ts';

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanup.splice(0).toReversed()) await step();
});

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPAN_ID = 'b7ad6b7169203331';

/** A gateway whose traces go to a collector, with one worker and a function `acme/echo`. */
async function traced(
  options: Partial<ThrowawayOptions> = {},
  ratio = 1,
): Promise<{ house: House; collector: Collector; stop: RunningGateway['stop'] }> {
  const collector = await otlpCollector();
  const house = await openHouse({ traces: { url: collector.url, ratio } });
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopped ??= house.gateway.stop());
  cleanup.push(() => collector.close(), stop);
  const worker = await house.worker({
    timings: () => ({ openedUs: 100, startedUs: 200, answeredUs: 300, wipedUs: 400, engineUs: 100 }),
    run: ({ path, body }) => {
      if (path === '/throw') throw new Error('a secret of the function');
      return { status: 200, body: [body] };
    },
    ...options,
  });
  cleanup.push(() => worker.kill());
  await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
  await house.deploy(await house.tenant('acme'), await signedFunction());
  return { house, collector, stop };
}

/** Sends and reads the answer: a connection that is not read to its end holds up the gateway's stop. */
async function sent(house: House, path: string, options: Parameters<House['call']>[2] = {}): Promise<number> {
  const reply = await house.call('POST', path, options);
  await reply.arrayBuffer();
  return reply.status;
}

/** What of it is not on the list. */
function unlisted(samples: readonly SeenSample[]): string[] {
  return samples.flatMap(({ name, labels, value }) => {
    const family = name.replace(/_(bucket|sum|count)$/, '');
    const isHistogram = Object.hasOwn(METRICS, family) && METRICS[family as MetricName].type === 'histogram';
    const metric = (isHistogram ? family : name) as MetricName;
    if (!Object.hasOwn(METRICS, metric)) return [name];
    const listed: Readonly<Record<string, Parameters<typeof isListed>[0]>> = METRICS[metric].labels;
    const { le, ...own } = labels;
    const bad = Object.entries(own).filter(([label, text]) => !isListed(listed[label] ?? [], text));
    if (le !== undefined && !isHistogram) bad.push(['le', le]);
    if (!Number.isFinite(value) || value < 0) bad.push(['value', String(value)]);
    return bad.map(([label, text]) => `${name}{${label}="${text}"}`);
  });
}

function unlistedSpans(spans: readonly SeenSpan[]): string[] {
  return spans.flatMap(({ name, attributes, events = [], links = [], status = {} }) => {
    if (!Object.hasOwn(SPANS, name)) return [name];
    const listed: Readonly<Record<string, Parameters<typeof isListed>[0]>> = SPANS[name as keyof typeof SPANS];
    const bad = attributes.filter(({ key, value }) => !isListed(listed[key] ?? [], Object.values(value)[0]));
    const others = [...events, ...links, ...(status.message === undefined ? [] : [status.message])];
    return [...bad.map(({ key }) => `${name} ${key}`), ...others.map(() => `${name} says more`)];
  });
}

const attribute = (span: SeenSpan | undefined, key: string): unknown =>
  Object.values(span?.attributes.find((it) => it.key === key)?.value ?? {})[0];

test('INV-33 metrics and traces say nothing but what is on the list, whatever is sent', async () => {
  const { house, collector, stop } = await traced({
    metrics: () => ({ requests: [{ outcome: 'ok', count: 3 }], engineMs: 1500 }),
  });
  const secret = 'marker7f3a';
  const seal = await confidentialFetch({ endpoint: house.gateway.url, function: 'acme/echo', policy: house.policy });
  await (await seal(`/${secret}?${secret}`, { method: 'POST', body: secret, headers: { 'x-a': secret } })).text();
  await (await seal('/throw', { method: 'POST', body: secret })).text();
  const headers = { tracestate: `a=${secret}`, baggage: `b=${secret}`, 'x-a': secret };
  await sent(house, `/f/acme/echo/${secret}`, { body: secret, headers });
  await sent(house, '/f/acme/echo/throw', { body: secret });
  await sent(house, `/f/acme/${secret}/`, { body: secret });
  await sent(house, `/f/${secret}/x/`, { headers: { traceparent: `00-${secret}` } });
  await sent(house, '/f/acme/echo/', {
    body: secret,
    headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': secret },
  });

  const scrape = async (): Promise<string> => (await fetch(`${house.gateway.adminUrl}/metrics`)).text();
  await expect.poll(scrape, { timeout: 20_000, interval: 200 }).toContain('cfn_worker_engine_seconds_total');
  const text = await scrape();
  await stop();
  const spans = collector.spans();
  expect(unlisted(parseMetrics(text))).toEqual([]);
  expect(unlistedSpans(spans)).toEqual([]);
  expect(text + collector.raw.join('')).not.toContain(secret);
  expect(
    collector
      .resources()
      .flat()
      .map(({ key }) => key),
  ).toEqual(expect.arrayContaining(['service.name']));
  expect(
    new Set(
      collector
        .resources()
        .flat()
        .map(({ key }) => key),
    ),
  ).toEqual(new Set(['service.name']));

  // And it does say what is: all spans, and the code of each refusal.
  expect(new Set(spans.map(({ name }) => name))).toEqual(new Set(Object.keys(SPANS)));
  const outcomes = spans.filter(({ name }) => name === 'cfn.request').map((span) => attribute(span, 'cfn.outcome'));
  expect(outcomes).toEqual(expect.arrayContaining(['ok', 'CFN_FUNCTION_NOT_FOUND', 'CFN_REQUEST_MALFORMED']));
}, 30_000);

test('the list refuses what is not on it', () => {
  const sample = (name: string, labels: Record<string, string>): SeenSample => ({ name, labels, value: 1 });
  expect(
    unlisted([
      sample('cfn_requests_total', { mode: 'sealed', outcome: 'ok' }),
      sample('cfn_requests_total', { mode: 'sealed', outcome: 'a prompt' }),
      sample('cfn_requests_total', { mode: 'open', outcome: 'ok', tenant: 'acme' }),
      sample('cfn_prompts_total', {}),
      sample('cfn_worker_leases', { worker: 'not a worker' }),
    ]),
  ).toEqual([
    'cfn_requests_total{outcome="a prompt"}',
    'cfn_requests_total{tenant="acme"}',
    'cfn_prompts_total',
    'cfn_worker_leases{worker="not a worker"}',
  ]);
});

describe('traces', () => {
  test('are of one tree: the caller’s span, the request, the worker, its steps', async () => {
    const { house, collector, stop } = await traced();
    await sent(house, '/f/acme/echo/', { body: 'x', headers: { traceparent: `00-${TRACE_ID}-${SPAN_ID}-01` } });
    await stop();
    const spans = collector.spans().filter(({ traceId }) => traceId === TRACE_ID);
    const byName = new Map(spans.map((span) => [span.name, span]));
    const parent = (name: string): string | undefined =>
      spans.find(({ spanId }) => spanId === byName.get(name)?.parentSpanId)?.name;
    expect(byName.get('cfn.request')?.parentSpanId).toBe(SPAN_ID);
    expect([parent('cfn.route'), parent('cfn.worker')]).toEqual(['cfn.request', 'cfn.request']);
    for (const step of ['open', 'start', 'run', 'wipe']) expect(parent(`cfn.worker.${step}`)).toBe('cfn.worker');
    const tookNs = ({ startTimeUnixNano, endTimeUnixNano }: SeenSpan): number =>
      Number(BigInt(endTimeUnixNano) - BigInt(startTimeUnixNano));
    const run = byName.get('cfn.worker.run');
    expect(run && Math.round(tookNs(run) / 1000)).toBe(100); // µs, as the worker said
    expect(attribute(run, 'cfn.engine_ms')).toBe(0.1);
  });

  test.each([
    ['a caller who asks for none', 1, `00-${TRACE_ID}-${SPAN_ID}-00`, 0],
    ['a ratio of 0, whatever the caller asks for', 0, `00-${TRACE_ID}-${SPAN_ID}-01`, 0],
    ['a traceparent that is none: a trace of its own', 1, `00-${'z'.repeat(32)}-${SPAN_ID}-01`, 1],
  ])('%s', async (_, ratio, traceparent, requests) => {
    const { house, collector, stop } = await traced({}, ratio);
    expect(await sent(house, '/f/acme/echo/', { body: 'x', headers: { traceparent } })).toBe(200);
    await stop();
    expect(collector.spans().filter(({ name }) => name === 'cfn.request')).toHaveLength(requests);
    expect(collector.spans().some(({ traceId }) => traceId === TRACE_ID)).toBe(false);
  });

  test.each([
    ['steps that run backwards', { openedUs: 300, startedUs: 200 }],
    ['steps beyond the time that the gateway saw', { openedUs: 4_000_000_000 }],
  ])('of a worker are left out where they cannot be true: %s', async (_, timings) => {
    const { house, collector, stop } = await traced({ timings: () => timings });
    await sent(house, '/f/acme/echo/', { body: 'x' });
    await stop();
    expect(
      collector
        .spans()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['cfn.request', 'cfn.route', 'cfn.worker']);
  });

  test('a collector that is away holds up neither a request nor the stop', { timeout: 7_000 }, async () => {
    const house = await openHouse({ traces: { url: 'http://127.0.0.1:1/v1/traces', ratio: 1 } });
    expect(await sent(house, '/f/acme/echo/')).toBe(404);
    await house.gateway.stop();
  });
});

describe('what a worker says of itself', () => {
  const ID = 'ab'.repeat(32);
  function asked(
    reply: () => unknown,
    ids = [ID],
  ): { told: WorkerMetrics; logs: string[]; text: () => Promise<string> } {
    const logs: string[] = [];
    const live = new Set(ids);
    const registry = {
      live: () => [...live].map((workerId) => ({ workerId })),
      get: (id: string) => (live.has(id) ? {} : undefined),
    };
    const told = workerMetrics({
      registry: registry as never,
      admission: { connection: () => ({ metrics: async () => reply() }) as never },
      log: (event) => logs.push(event),
    });
    cleanup.push(() => told.stop());
    return {
      told,
      logs,
      text: () =>
        metrics(
          registry as never,
          () => ({ waiting: 0, inflight: 0, capacity: 0 }),
          () => told.samples(),
        ).text(),
    };
  }

  test('is told by its label', async () => {
    const { told, text } = asked(() => ({ requests: [{ outcome: 'ok', count: 7 }], wipeMs: 2500, leases: 2 }));
    await told.ask();
    const samples = parseMetrics(await text());
    const of = (name: string): SeenSample[] => samples.filter((sample) => sample.name === name);
    expect(of('cfn_worker_requests_total')).toEqual([
      { name: 'cfn_worker_requests_total', labels: { worker: workerLabel(ID), outcome: 'ok' }, value: 7 },
    ]);
    expect(of('cfn_worker_wipe_seconds_total')[0]?.value).toBe(2.5);
    expect(of('cfn_worker_leases')[0]?.value).toBe(2);
    expect(unlisted(samples)).toEqual([]);
  });

  const smuggled: [string, unknown][] = [
    ['an outcome that is none', { requests: [{ outcome: 'the prompt was: …', count: 1 }] }],
    [
      'an outcome twice',
      {
        requests: [
          { outcome: 'ok', count: 1 },
          { outcome: 'ok', count: 2 },
        ],
      },
    ],
    ['a negative count', { engineCalls: -1 }],
    ['a fraction', { engineMs: 0.123456789 }],
    ['a text', { leases: '4' }],
    ['what is no number', { memoryBytes: Number.NaN }],
    ['one that is too large', { engineMs: 2 ** 60 }],
    ['a field that nobody knows', { prompt: 'x' }],
    ['nothing', null],
  ];
  test.each(smuggled)('is refused as a whole with %s', async (_, reply) => {
    const { told, logs, text } = asked(() => reply);
    await told.ask();
    expect([...told.samples()]).toEqual([]);
    expect(logs).toEqual(['worker.metrics.refused']);
    expect(await text()).not.toContain('cfn_worker_');
  });

  test('never counts down', async () => {
    let reply = { requests: [{ outcome: 'ok', count: 9 }], engineMs: 1000 };
    const { told, logs } = asked(() => reply);
    await told.ask();
    const before = [...told.samples()];
    for (const worse of [{ engineMs: 999 }, { requests: [{ outcome: 'ok', count: 8 }] }, { requests: [] }]) {
      reply = { requests: [{ outcome: 'ok', count: 9 }], engineMs: 1000, ...worse };
      await told.ask();
    }
    expect([...told.samples()]).toEqual(before);
    expect(logs).toHaveLength(3);
  });

  test('has no label of its own beyond so many workers: the rest is one sum', async () => {
    const ids = Array.from({ length: WORKERS_LABELLED_MAX + 2 }, (_, i) =>
      i.toString(16).padStart(64, '0').split('').toReversed().join(''),
    );
    const { told, text } = asked(() => ({ sandboxes: 3, requests: [{ outcome: 'ok', count: 1 }] }), ids);
    await told.ask();
    const samples = parseMetrics(await text());
    const sandboxes = samples.filter(({ name }) => name === 'cfn_worker_sandboxes');
    expect(sandboxes).toHaveLength(WORKERS_LABELLED_MAX + 1);
    expect(sandboxes.at(-1)).toMatchObject({ labels: { worker: 'other' }, value: 6 });
    expect(unlisted(samples)).toEqual([]);
  });
});
