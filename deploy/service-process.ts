import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CfnError, fromProblem } from '../proto/index.ts';

const READY_MS_MAX = 30_000;
const STOP_MS_MAX = 4_000;

/** One service of ours, running as a process of its own. */
export interface ServiceProcess<Ready> {
  readonly pid: number;
  /** What it said when it was ready. */
  readonly ready: Ready;
  readonly exited: Promise<void>;
  /** SIGTERM, and SIGKILL when it does not go. */
  stop(): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

export interface ServiceStart {
  readonly name: string;
  readonly entry: URL;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Gets each line the service logs (standard error). */
  readonly onLog?: (line: string) => void;
}

/**
 * Starts a service and waits for its line of JSON on standard output.
 *
 * @throws {CfnError} the service's own when it says why it does not start; `CFN_INTERNAL` with its last words when it ends without
 */
export async function startService<Ready>(start: ServiceStart): Promise<ServiceProcess<Ready>> {
  const child = spawn(process.execPath, [start.entry.pathname, ...start.args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...start.env },
  });
  const lastWords: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    lastWords.push(line);
    if (lastWords.length > 20) lastWords.shift();
    start.onLog?.(line);
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const ready = Promise.withResolvers<Ready>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('{"ready":true')) ready.resolve(JSON.parse(line) as Ready);
  });
  const fail = (why: string): void =>
    ready.reject(
      saidFailure(lastWords) ?? new CfnError('CFN_INTERNAL', `${start.name} ${why}:\n${lastWords.join('\n')}`),
    );
  const timer = setTimeout(() => fail(`was not ready within ${READY_MS_MAX} ms`), READY_MS_MAX);
  void exited.then(() => setTimeout(() => fail('ended before it was ready'), 50));
  try {
    return {
      pid: child.pid ?? -1,
      ready: await ready.promise,
      exited,
      kill: (signal) => void child.kill(signal),
      async stop() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill('SIGTERM');
        const hard = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
        await exited;
        clearTimeout(hard);
      },
    };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Services end their log with why they did not start. */
function saidFailure(lastWords: readonly string[]): CfnError | undefined {
  try {
    const error = fromProblem(JSON.parse(lastWords.at(-1) ?? ''));
    return error?.code === 'CFN_INTERNAL' ? undefined : error;
  } catch {
    return undefined; // no line of a log
  }
}
