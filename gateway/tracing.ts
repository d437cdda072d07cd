import type { Mode, Outcome } from './telemetry-names.ts';

/** Traces of requests: ids and times, by names of `telemetry-names.ts`. */
export interface Tracing {
  /** @param traceparent of the caller, as it came @returns undefined: this request is not traced */
  begin(request: {
    readonly requestId: string;
    readonly mode: Mode;
    readonly traceparent: string | undefined;
  }): RequestTrace | undefined;
  /** Sends what is still to be sent. */
  stop(): Promise<void>;
}

export interface RequestTrace {
  /** From here on, the request is with a worker. */
  routed(workerId: string): void;
  /** What the worker said of its steps, as it came. */
  timed(timings: unknown): void;
  end(outcome: Outcome): void;
}

export interface TracingOptions {
  /** Where spans go, by OTLP over HTTP: mostly `http://…:4318/v1/traces`. */
  readonly url: string;
  /** Share of the requests that are traced, 0 to 1. A caller can ask for less by its `traceparent`, not for more. */
  readonly ratio: number;
}

/** No request is traced. */
export const NO_TRACING: Tracing = { begin: () => undefined, stop: async () => {} };
