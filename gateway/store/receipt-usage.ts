import { microseconds, type Receipt } from '../../proto/index.ts';

/** What one receipt adds to the sums, in integers. Every implementation of the store counts by this. */
export interface ReceiptUsage {
  readonly failed: 0 | 1;
  readonly engineCalls: number;
  readonly engineMicroseconds: number;
  readonly cpuMicroseconds: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly egressBytes: number;
  readonly models: readonly {
    /** owner/name@version; once, however many bindings it has. */
    readonly model: string;
    readonly engineCalls: number;
    readonly engineMicroseconds: number;
  }[];
}

export function usageOf({ outcome, usage, request, response, egress, models }: Receipt): ReceiptUsage {
  const byModel = Map.groupBy(models, ({ model }) => model);
  return {
    failed: outcome === 'ok' ? 0 : 1,
    engineCalls: usage.engineCalls,
    engineMicroseconds: microseconds(usage.engineMs),
    cpuMicroseconds: microseconds(usage.cpuMs),
    requestBytes: request.bytes,
    responseBytes: response.bytes,
    egressBytes: sum(egress.map(({ bytesSent, bytesReceived }) => bytesSent + bytesReceived)),
    models: [...byModel].map(([model, bindings]) => {
      // A receipt from before use was told for each model: where there is but one, all is its.
      const told = bindings.map((it) => it.usage ?? (models.length === 1 ? usage : { engineMs: 0, engineCalls: 0 }));
      return {
        model,
        engineCalls: sum(told.map(({ engineCalls }) => engineCalls)),
        engineMicroseconds: sum(told.map(({ engineMs }) => microseconds(engineMs))),
      };
    }),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
