import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Refusal } from '../../evidence/reasons.ts';
import { oneAtATime } from '../one-at-a-time.ts';
import type { GpuInventory, GpuReportAndChain } from './library.ts';
import type { NvmlReply, NvmlRequest } from './messages.ts';

/** Searched as `dlopen` does; the driver's package puts it into the image. */
const LIBRARY = 'libnvidia-ml.so.1';
/** For one call. A report takes a second; the first call also wakes the driver, which takes seconds per GPU. First guess. */
const CALL_TIMEOUT_MS = 30_000;
const WAITING_MAX = 64;

export interface NvmlOptions {
  readonly library?: string;
  readonly timeoutMs?: number;
}

/** NVML in a process of its own, which is started when first needed, and killed when it does not answer. */
export interface NvmlClient extends Disposable {
  /** @throws {Refusal} `collect/gpu-library`, `-driver`, `-call`, `-busy`, `-timeout`, `-process`; `collect/queue-full` */
  inventory(): Promise<GpuInventory>;
  /** Report over 32 bytes of nonce, and the device's certificates. Throws as {@link inventory}. */
  evidence(index: number, nonce: Uint8Array): Promise<GpuReportAndChain>;
  /** Lets all GPUs take work, or no longer. Throws as {@link inventory}; the caller has to be root. */
  setReady(ready: boolean): Promise<void>;
}

export function nvmlClient({ library = LIBRARY, timeoutMs = CALL_TIMEOUT_MS }: NvmlOptions = {}): NvmlClient {
  const inTurn = oneAtATime({
    waitingMax: WAITING_MAX,
    timeoutMs,
    what: 'answer of NVML',
    timeoutReason: 'collect/gpu-timeout',
  });
  let child: ChildProcess | undefined;
  const start = (): ChildProcess => {
    const started = fork(fileURLToPath(new URL('./main.ts', import.meta.url)), [library], {
      env: {}, // what the agent was started with is not for foreign code
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    started.once('exit', () => {
      if (child === started) child = undefined;
    });
    started.on('error', () => undefined); // it ends, and `ask` says so
    started.unref();
    started.channel?.unref();
    return started;
  };
  const ask = (request: NvmlRequest): Promise<unknown> =>
    inTurn((signal) => {
      child ??= start();
      return exchange(child, request, signal);
    });
  return {
    inventory: async () => (await ask({ op: 'inventory' })) as GpuInventory,
    evidence: async (index, nonce) => (await ask({ op: 'evidence', index, nonce })) as GpuReportAndChain,
    setReady: async (ready) => void (await ask({ op: 'set-ready', ready })),
    [Symbol.dispose]: () => void child?.kill('SIGKILL'),
  };
}

/** One question, one answer. Settles when the child has answered or is gone; when nobody waits any more, it is killed. */
function exchange(child: ChildProcess, request: NvmlRequest, signal: AbortSignal): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const onMessage = (message: unknown): void => {
    const reply = message as NvmlReply;
    if (reply.ok) resolve(reply.value);
    else reject(new Refusal(reply.reason, reply.message));
  };
  const onExit = (code: number | null, killedBy: string | null): void =>
    reject(new Refusal('collect/gpu-process', `the NVML process ended (${killedBy ?? `exit code ${code}`})`));
  const onAbort = (): void => void child.kill('SIGKILL');
  child.on('message', onMessage);
  child.on('exit', onExit);
  signal.addEventListener('abort', onAbort);
  child.send(request, (error) => {
    if (error) reject(new Refusal('collect/gpu-process', `the NVML process does not listen: ${error.message}`));
  });
  return promise.finally(() => {
    child.off('message', onMessage);
    child.off('exit', onExit);
    signal.removeEventListener('abort', onAbort);
  });
}
