import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT_CONTEXT, SpanKind, trace, type Context, type Span } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { z } from 'zod';
import { isListed, SPANS, workerLabel, type SpanName } from './telemetry-names.ts';
import type { Tracing, TracingOptions } from './tracing.ts';

/** Time that a stop gives to the last spans, in ms. */
const STOP_MS_MAX = 2_000;

const microseconds = z.int().min(0).max(0xffff_ffff).default(0);
const timingsSchema = z.strictObject({
  openedUs: microseconds,
  startedUs: microseconds,
  answeredUs: microseconds,
  wipedUs: microseconds,
  engineUs: microseconds,
});

/** Its libraries take long to load: imported where there are traces. @param now for where times are; @param monotonicMs for how long they are */
export function openTracing(
  { url, ratio }: TracingOptions,
  { now, monotonicMs }: { readonly now: () => Date; readonly monotonicMs: () => number },
): Tracing {
  const sampler = new TraceIdRatioBasedSampler(ratio);
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'cfn-gateway' }),
    sampler: new ParentBasedSampler({
      root: sampler,
      remoteParentSampled: sampler,
      remoteParentNotSampled: new AlwaysOffSampler(),
    }),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url }) })],
  });
  const tracer = provider.getTracer('cfn');
  const start = (
    name: SpanName,
    attributes: Readonly<Record<string, string | number>>,
    atMs: number,
    parent: Context,
  ): { readonly span: Span; readonly inside: Context } => {
    const span = tracer.startSpan(name, { kind: SpanKind.INTERNAL, startTime: atMs }, parent);
    setListed(span, name, attributes);
    return { span, inside: trace.setSpan(parent, span) };
  };

  return {
    begin({ requestId, mode, traceparent }) {
      const [wallMs, startMs] = [now().getTime(), monotonicMs()];
      const atMs = (): number => wallMs + monotonicMs() - startMs;
      const attributes = { 'cfn.mode': mode, 'cfn.request_id': requestId };
      const { span: request, inside } = start('cfn.request', attributes, wallMs, parentOf(traceparent));
      if (!request.isRecording()) return undefined;
      const route = start('cfn.route', {}, wallMs, inside).span;
      let worker: { readonly span: Span; readonly inside: Context; readonly sinceMs: number } | undefined;

      return {
        routed(workerId) {
          const sinceMs = atMs();
          route.end(sinceMs);
          worker = { ...start('cfn.worker', { 'cfn.worker_id': workerLabel(workerId) }, sinceMs, inside), sinceMs };
        },
        timed(timings) {
          if (worker === undefined) return;
          for (const { name, fromUs, toUs, attributes: own } of stepsOf(timings, (atMs() - worker.sinceMs) * 1000)) {
            const { span } = start(name, own, worker.sinceMs + fromUs / 1000, worker.inside);
            span.end(worker.sinceMs + toUs / 1000);
          }
        },
        end(outcome) {
          const overMs = atMs();
          setListed(request, 'cfn.request', { 'cfn.outcome': outcome });
          (worker?.span ?? route).end(overMs);
          request.end(overMs);
        },
      };
    },
    async stop() {
      const late = sleep(STOP_MS_MAX, undefined, { ref: false }); // a collector that is away holds up no stop
      await Promise.race([provider.shutdown().catch(() => {}), late]);
    },
  };
}

/** W3C Trace Context, version 00; anything else begins a trace of its own. */
function parentOf(traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT;
  const traceFlags = Number.parseInt(flags, 16) & 1;
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}

interface WorkerStep {
  readonly name: SpanName;
  readonly fromUs: number;
  readonly toUs: number;
  readonly attributes: Readonly<Record<string, number>>;
}

/** A worker's steps, where its word can be true: in order, and within the time that the gateway saw. */
function stepsOf(timings: unknown, elapsedUs: number): WorkerStep[] {
  const parsed = timingsSchema.safeParse(timings);
  if (!parsed.success) return [];
  const { openedUs, startedUs, answeredUs, wipedUs, engineUs } = parsed.data;
  const steps: WorkerStep[] = [];
  let fromUs = 0;
  for (const [name, toUs, attributes] of [
    ['cfn.worker.open', openedUs, {}],
    ['cfn.worker.start', startedUs, {}],
    ['cfn.worker.run', answeredUs, { 'cfn.engine_ms': engineUs / 1000 }],
    ['cfn.worker.wipe', wipedUs, {}],
  ] as const) {
    if (toUs === 0) continue; // it did not come to that
    if (toUs < fromUs || toUs > elapsedUs) return [];
    steps.push({ name, fromUs, toUs, attributes });
    fromUs = toUs;
  }
  return steps;
}

function setListed(span: Span, name: SpanName, attributes: Readonly<Record<string, string | number>>): void {
  const listed: Readonly<Record<string, Parameters<typeof isListed>[0]>> = SPANS[name];
  for (const [key, value] of Object.entries(attributes))
    if (listed[key] !== undefined && isListed(listed[key], value)) span.setAttribute(key, value);
}
