import type { ServerWritableStream } from '@grpc/grpc-js';
import { STATUS_ENTRIES_MAX, STATUS_MS } from '../../proto/index.ts';
import type { WorkerStatus } from '../../proto/grpc.ts';
import type { FunctionHost } from './function-host.ts';
import type { Invoker } from './invoke.ts';
import type { ModelHost } from './model-host.ts';

/** What the worker tells its gateways of itself. */
export interface StatusSource {
  /** Tells one gateway, until it goes away or {@link StatusSource.leave} is called. */
  stream(call: ServerWritableStream<object, WorkerStatus>): void;
  /** The worker takes no new request: says so, and ends the streams. */
  leave(): void;
}

/** Looks at the worker {@link STATUS_MS} apart: what changes in between is told together, and nothing has to announce a change. */
export function statusSource(deps: {
  readonly functions: Pick<FunctionHost, 'running' | 'memory'>;
  readonly models: Pick<ModelHost, 'resident'>;
  readonly invoker: Pick<Invoker, 'inflight'>;
  readonly capacity: number;
  readonly monotonicMs: () => number;
}): StatusSource {
  const tellers = new Set<(leaving: boolean) => void>();
  const look = (): WorkerStatus => {
    const { budget, free } = deps.functions.memory();
    return {
      inflight: deps.invoker.inflight(),
      capacity: deps.capacity,
      versions: deps.functions.running().slice(0, STATUS_ENTRIES_MAX),
      models: deps.models.resident().slice(0, STATUS_ENTRIES_MAX),
      memoryFree: Math.max(0, free),
      memoryBudget: budget,
    };
  };
  return {
    stream(call) {
      let told = '';
      let toldAtMs = -Infinity;
      let slow = false;
      const tell = (leaving: boolean): void => {
        const status = { ...look(), leaving };
        const text = JSON.stringify(status);
        const nowMs = deps.monotonicMs();
        // A gateway that does not read gets the newest once it does.
        if (slow || (text === told && nowMs - toldAtMs < STATUS_MS.beat)) return;
        [told, toldAtMs] = [text, nowMs];
        slow = !call.write(status);
      };
      const timer = setInterval(() => tell(false), STATUS_MS.look);
      const teller = (leaving: boolean): void => {
        clearInterval(timer);
        tellers.delete(teller);
        if (leaving) tell(true);
        call.end();
      };
      call.on('drain', () => (slow = false));
      call.once('cancelled', () => teller(false));
      call.once('error', () => teller(false));
      tellers.add(teller);
      tell(false);
    },
    leave() {
      for (const teller of tellers) teller(true);
    },
  };
}
