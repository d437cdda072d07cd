import { randomFillSync } from 'node:crypto';
import type { Socket } from 'node:net';
import { bodyLimits, CfnError, fromUtf8, toCfnError } from '../../proto/index.ts';
import { openChannel, type Frame } from '../ipc/channel.ts';
import type { AgentToSandbox, InvocationMessage, SandboxToAgent } from '../ipc/messages.ts';
import { engineLink } from './engine-link.ts';
import { invoke, type Invocation, type InvocationDeps } from './invocation.ts';
import { isolatePool, type IsolatePool } from './isolate-pool.ts';
import { readyIsolate, type IsolateRecipe, type ReadyIsolate } from './isolate.ts';
import { pageRelease } from './page-release.ts';
import type { PartName } from './platform/parts.ts';
import { makeSnapshot, partsNamedIn, readPlatform, type PlatformSource } from './platform-image.ts';
import { secretInbox } from './secrets.ts';
import { stackScrubber } from './stack-scrubber.ts';
import { fillYoungSpace } from './young-space.ts';

export interface SandboxDeps {
  readonly socket: Socket;
  /** Without it the platform is evaluated in every isolate: slower, for engines that cannot make snapshots. */
  readonly useSnapshot: boolean;
  /** Monotonic, in ms. */
  readonly now: () => number;
  /** Threads that run isolates. */
  readonly threads: number;
  /** Resident memory of this process, in bytes. */
  readonly residentBytes: () => number;
  /** Ends the process at once. */
  readonly exit: () => void;
}

type PreparedPlatform = Pick<IsolateRecipe, 'platform' | 'loaded' | 'snapshot'>;
type StartMessage = Extract<AgentToSandbox, { op: 'start' }>;
/** What came for an invocation whose isolate is not there yet. */
type Early = { readonly message: InvocationMessage; readonly payload: Uint8Array<ArrayBuffer> }[];
type InvokeMessage = Extract<AgentToSandbox, { op: 'invoke' }>;

/** How often limits are looked at while something runs, in ms. */
const CHECK_MS = 4;
/** No request for so long: time to clean, in ms. Cleaning takes some ms, for which a steady trickle of requests must not wait each time. */
const QUIET_MS = 20;
/** Cleaning waits no longer than this for quiet, in ms, only for what runs. */
const DIRTY_MS_MAX = 80;
/** Quiet for so long, in ms: every isolate is made anew, should one have been given a page of another after all. */
const LONG_QUIET_MS = 800;
/** V8 gives pages back within this, in ms: an isolate made then has none that another one left. */
const PAGES_MS = 3;
/** Resident memory that a process with nothing to do may gain before it is the functions' fault, in bytes: pool, frames, fragmentation. */
const RESIDENT_SLACK_BYTES = 256 * 1024 * 1024;
const RANDOM_BYTES_MAX = 65_536;

function random(length: number): ArrayBuffer {
  if (!Number.isInteger(length) || length < 0 || length > RANDOM_BYTES_MAX)
    throw new RangeError('too many random bytes at once');
  return randomFillSync(new Uint8Array(length)).buffer;
}

/** Serves one function version to the agent at the other end of the socket. */
export function serveSandbox({ socket, useSnapshot, now, threads, residentBytes, exit }: SandboxDeps): void {
  const running = new Map<string, Invocation | Early>();
  let served: Promise<{ pool: IsolatePool; deps: Omit<InvocationDeps, 'respond' | 'tell'> }> | undefined;
  let platform: PreparedPlatform | undefined;
  let watch: NodeJS.Timeout | undefined;
  let memoryBytes = 0;
  let idleResidentBytes = 0;
  const pages = pageRelease(() => void cleanAgain());
  const stacks = stackScrubber(threads);
  const inbox = secretInbox();
  let secrets: ReturnType<typeof inbox.open> | undefined;
  let dirtySinceMs: number | undefined;
  let cleanedAgain = false;
  let cleaning: NodeJS.Timeout | undefined;
  let renewing: NodeJS.Timeout | undefined;

  const channel = openChannel(
    socket,
    (frame) => void onFrame(frame).catch(exit), // a frame that cannot be handled is a bug of the agent or of ours: fail closed
    () => exit(),
  );
  const tell = (message: SandboxToAgent, payload?: Uint8Array): Promise<void> =>
    channel.send({ ...message }, ...(payload === undefined ? [] : [payload]));

  async function onFrame({ header, payload }: Frame): Promise<void> {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- from the agent, which holds more than this process does
    const message = header as unknown as AgentToSandbox;
    switch (message.op) {
      case 'platform':
        if (platform !== undefined) throw new CfnError('CFN_INTERNAL', 'the platform came twice');
        platform = prepare(readPlatform(fromUtf8(payload)), []);
        setImmediate(() => void stacks.prepare().catch(exit));
        return;
      case 'secrets-key':
        return tell({ op: 'secrets-key', wrappingKey: await inbox.publicKey() });
      case 'secrets':
        secrets = inbox.open(payload, message.version, message.challenge);
        secrets.catch(() => undefined); // `start` says it
        return;
      case 'start':
        if (served !== undefined) throw new CfnError('CFN_INTERNAL', 'started twice');
        served = start(message, payload);
        return served.then(
          () => tell({ op: 'ready' }),
          async (error: unknown) => {
            const { code, message: text } = toCfnError(error);
            await tell({ op: 'start-failed', code, message: text });
          },
        );
      case 'invoke':
        return run(message, payload);
      case 'body':
      case 'body-failed':
      case 'fetched':
      case 'fetch-failed':
      case 'credit':
      case 'abort': {
        const invocation = running.get(message.id);
        if (invocation === undefined)
          payload.fill(0); // it has ended meanwhile
        else if (Array.isArray(invocation)) invocation.push({ message, payload });
        else invocation.receive(message, payload);
        return;
      }
      default:
        message satisfies never;
        throw new CfnError('CFN_INTERNAL', 'unknown message');
    }
  }

  /** A snapshot of the platform with these parts evaluated in it. */
  function prepare(source: PlatformSource, loaded: readonly PartName[]): PreparedPlatform {
    return { platform: source, loaded, snapshot: useSnapshot ? makeSnapshot(source, loaded) : undefined };
  }
  function platformFor(bundle: string, prepared: PreparedPlatform): PreparedPlatform {
    const loaded = partsNamedIn(bundle);
    return loaded.length === 0 ? prepared : prepare(prepared.platform, loaded);
  }

  async function start(message: StartMessage, bundle: Uint8Array): Promise<Awaited<NonNullable<typeof served>>> {
    const { models, vars, limits } = message;
    const { responseBytesMax } = bodyLimits(limits);
    memoryBytes = limits.memoryMb * 1024 * 1024;
    if (platform === undefined) throw new CfnError('CFN_INTERNAL', 'started before the platform came');
    const text = fromUtf8(bundle, 'CFN_FUNCTION_INVALID');
    const recipe: IsolateRecipe = {
      ...platformFor(text, platform),
      bundle: text,
      options: {
        vars: { ...vars, ...(await secrets) },
        models: models.map(({ binding, inputs, outputs }) => ({ binding, inputs, outputs })),
        responseBytesMax,
      },
      memoryMb: limits.memoryMb,
      onCatastrophe: (isolate) => void endWithProcess(isolate),
    };
    const make = (): Promise<ReadyIsolate> => readyIsolate(recipe, random);
    const pool = isolatePool(message.poolSize, make, await make()); // the first proves the bundle
    void fill(pool);
    const inputNames = models.map(({ inputs }) => inputs.map(({ name }) => name));
    return {
      pool,
      deps: {
        engines: models.map(({ socketPath }) => engineLink(socketPath)),
        inputNames,
        limits,
        responseBytesMax,
        now,
        random,
      },
    };
  }

  async function run({ id, wallMs, streamed }: InvokeMessage, request: Uint8Array<ArrayBuffer>): Promise<void> {
    if (served === undefined || running.has(id)) throw new CfnError('CFN_INTERNAL', 'invoked before start, or twice');
    const early: Early = [];
    running.set(id, early);
    cleanedAgain = false;
    const { pool, deps } = await served;
    await stacks.prepare();
    const taken = pool.take();
    const ready = taken instanceof Promise ? await taken : taken;
    const invocation = invoke(
      ready,
      { message: request.buffer, streamed: streamed === true, wallMs },
      {
        ...deps,
        respond: (bytes, status) => tell({ op: 'response', id, ...(status === undefined ? {} : { status }) }, bytes),
        tell: (message, payload) => tell({ ...message, id }, payload),
      },
    );
    running.set(id, invocation);
    if (early.some(({ message }) => message.op === 'abort')) invocation.stop('CFN_ABORTED'); // before it did anything
    for (const { message, payload } of early) invocation.receive(message, payload);
    if (watch === undefined) {
      idleResidentBytes = residentBytes();
      watch = setInterval(checkAll, CHECK_MS);
    }
    const end = await invocation.done;
    pages.hurry(1);
    await tell({ op: 'done', id, ...end });
    running.delete(id);
    if (running.size === 0) {
      clearInterval(watch);
      watch = undefined;
    }
    if (!end.wipe.isolateDisposed) return exit(); // a thread is stuck in it: only the end of the process frees the memory
    if (pool.size === 0) setTimeout(() => pool.size > 0 || void pool.refill(1), PAGES_MS);
    cleanLater(pool);
  }

  /**
   * Once it is quiet: overwrites what isolates left, and fills the pool from clean memory. Isolates that were made meanwhile go, for
   * they can have pages of others. Busy processes only keep one isolate ahead.
   */
  function cleanLater(pool: IsolatePool): void {
    dirtySinceMs ??= now();
    clearTimeout(cleaning);
    clearTimeout(renewing);
    renewing = setTimeout(() => {
      if (running.size > 0) return;
      pool.unsettle();
      clean(pool).catch(exit);
    }, LONG_QUIET_MS);
    cleaning = setTimeout(
      () => {
        if (running.size > 0) return; // its end comes back here
        clean(pool).catch(exit); // what cannot be cleaned must not go on
      },
      Math.max(PAGES_MS, Math.min(QUIET_MS, dirtySinceMs + DIRTY_MS_MAX - now())),
    );
  }

  /** Whatever is in the pool can hold pages of others. Once, until something runs: a mistake must not go on for ever. */
  async function cleanAgain(): Promise<void> {
    const pool = (await served)?.pool;
    if (pool === undefined || cleanedAgain) return;
    cleanedAgain = true;
    pool.unsettle();
    cleanLater(pool);
  }

  async function clean(pool: IsolatePool): Promise<void> {
    dirtySinceMs = undefined;
    await pages.settled();
    pages.hurry(await pool.dropRecent());
    await stacks.scrub();
    await pages.settled();
    fillYoungSpace();
    await fill(pool);
  }

  /** What is made while nothing runs has no pages of others. */
  async function fill(pool: IsolatePool): Promise<void> {
    await pool.refill();
    if (dirtySinceMs === undefined && running.size === 0) pool.settle();
  }

  function checkAll(): void {
    // WebAssembly memories and growable buffers are outside what isolated-vm counts. Whose they are cannot be told; all that run
    // here are invocations of one function.
    const tooMuch = residentBytes() > idleResidentBytes + RESIDENT_SLACK_BYTES + running.size * 2 * memoryBytes;
    if (tooMuch)
      for (const invocation of running.values()) if (!Array.isArray(invocation)) invocation.stop('CFN_LIMIT_MEMORY');
    for (const invocation of running.values()) if (!Array.isArray(invocation)) invocation.check();
  }

  /** V8 cannot go on with this isolate, nor can it be disposed. Its invocation is told so; the others see the process end. */
  async function endWithProcess(isolate: unknown): Promise<void> {
    const usage = { cpuMs: 0, wallMs: 0, models: [] };
    const wipe = { isolateDisposed: false, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0 };
    for (const [id, invocation] of running) {
      if (Array.isArray(invocation) || invocation.isolate !== isolate) continue;
      await tell({ op: 'done', id, code: 'CFN_LIMIT_MEMORY', usage, wipe }).catch(() => undefined);
    }
    exit();
  }
}
