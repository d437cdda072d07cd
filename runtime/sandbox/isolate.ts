import ivm from 'isolated-vm';
import { CfnError } from '../../proto/index.ts';
import type { BootOptions } from './platform/boot.ts';
import type { HostEvent, InvocationCalls } from './platform/host.ts';
import { PARTS, type PartName } from './platform/parts.ts';
import { platformScripts, type PlatformSource } from './platform-image.ts';

/** What every isolate of one function version is made of. */
export interface IsolateRecipe {
  readonly platform: PlatformSource;
  /** Parts that are there before the bundle is evaluated. */
  readonly loaded: readonly PartName[];
  /** Made of platform and loaded parts; without one their scripts are evaluated in each isolate. */
  readonly snapshot: ivm.ExternalCopy<ArrayBuffer> | undefined;
  readonly bundle: string;
  /** Compiled form of the bundle; filled by the first isolate. */
  cachedData?: ivm.ExternalCopy<ArrayBuffer> | undefined;
  readonly options: BootOptions;
  readonly memoryMb: number;
  /** V8 lost control of an isolate; the process must end. */
  readonly onCatastrophe: (isolate: ivm.Isolate) => void;
}

/** An isolate with platform and function in it, that has seen no request. */
export interface ReadyIsolate {
  readonly isolate: ivm.Isolate;
  /** CPU time spent on getting ready, in ns; not the invocation's. */
  readonly cpuBefore: bigint;
  /** Calls into the isolate without waiting; nothing that is thrown there comes back. Buffers are handed over: they are detached here. */
  send(...event: HostEvent): void;
  /** Sets who answers the isolate's calls. Until then they come to nothing. */
  connect(calls: InvocationCalls): void;
}

/** Time that a module may take to evaluate, in ms. */
const EVALUATE_MS = 5_000;

/** @throws {CfnError} `CFN_FUNCTION_INVALID` when the bundle does not compile or evaluate, or has no handler */
export async function readyIsolate(
  recipe: IsolateRecipe,
  random: (length: number) => ArrayBuffer,
): Promise<ReadyIsolate> {
  const { snapshot } = recipe;
  const isolate: ivm.Isolate = new ivm.Isolate({
    ...(snapshot === undefined ? {} : { snapshot }),
    memoryLimit: recipe.memoryMb,
    onCatastrophicError: () => recipe.onCatastrophe(isolate),
  });
  try {
    const context = await isolate.createContext();
    if (snapshot === undefined)
      for (const { code, filename } of platformScripts(recipe.platform, recipe.loaded))
        await (await isolate.compileScript(code, { filename })).run(context);
    let calls: InvocationCalls | undefined;
    const entry = await boot(context, () => calls, random, recipe);
    await evaluateBundle(isolate, context, recipe, entry);
    return {
      isolate,
      cpuBefore: isolate.cpuTime,
      send: (...event) => entry.onEvent.applyIgnored(undefined, event.map(handOver)),
      connect: (to) => (calls = to),
    };
  } catch (error) {
    if (!isolate.isDisposed) isolate.dispose();
    throw error;
  }
}

/** Array buffers go in without a copy that stays behind. */
function handOver(value: unknown): ivm.Transferable {
  if (value instanceof ArrayBuffer)
    return new ivm.ExternalCopy(value, { transferOut: true }).copyInto({
      release: true,
      transferIn: true,
    }) as unknown as ivm.Transferable;
  if (typeof value === 'object' && value !== null)
    return new ivm.ExternalCopy(value).copyInto({ release: true }) as unknown as ivm.Transferable;
  return value as ivm.Transferable;
}

interface Entry {
  readonly onEvent: ivm.Reference<(...event: unknown[]) => void>;
  readonly useModule: ivm.Reference<(namespace: unknown) => boolean>;
}

async function boot(
  context: ivm.Context,
  calls: () => InvocationCalls | undefined,
  random: (length: number) => ArrayBuffer,
  { options, platform }: IsolateRecipe,
): Promise<Entry> {
  // `ignored`: the isolate goes on without waiting, and sees nothing of what happens here.
  const tell = <Args extends unknown[]>(call: (host: InvocationCalls, ...args: Args) => void): ivm.Callback =>
    new ivm.Callback(
      (...args: Args) => {
        const host = calls();
        if (host !== undefined) call(host, ...args);
      },
      { ignored: true },
    );
  const result = await context.evalClosure(
    `const boot = globalThis.__boot;
     delete globalThis.__boot;
     return boot({ respond: $0, finish: $1, run: $2, startTimer: $3, stopTimer: $4, digest: $5, random: $6, partSource: $7 }, $8);`,
    [
      tell((host, bytes: ArrayBuffer, status: number) => host.respond(bytes, status)),
      tell((host, code: string) => host.finish(code)),
      tell((host, id: number, binding: number, layout: readonly number[], bytes: ArrayBuffer) =>
        host.run(id, binding, layout, bytes),
      ),
      tell((host, id: number, ms: number) => host.startTimer(id, ms)),
      tell((host, id: number) => host.stopTimer(id)),
      tell((host, id: number, algorithm: string, bytes: ArrayBuffer) => host.digest(id, algorithm, bytes)),
      new ivm.Callback(random, { sync: true }),
      new ivm.Callback((name: string) => (Object.hasOwn(PARTS, name) ? platform.parts[name as PartName] : ''), {
        sync: true,
      }),
      new ivm.ExternalCopy(options).copyInto({ release: true }),
    ],
    { result: { reference: true }, filename: 'cfn:boot' },
  );
  const entry = result as ivm.Reference<{
    onEvent: (...event: unknown[]) => void;
    useModule: (namespace: unknown) => boolean;
    warmUp: () => void;
  }>;
  const [onEvent, useModule, warmUp] = await Promise.all([
    entry.get('onEvent', { reference: true }),
    entry.get('useModule', { reference: true }),
    entry.get('warmUp', { reference: true }),
  ]);
  await warmUp.apply(undefined, []);
  warmUp.release();
  entry.release();
  return { onEvent, useModule } as unknown as Entry;
}

async function evaluateBundle(
  isolate: ivm.Isolate,
  context: ivm.Context,
  recipe: IsolateRecipe,
  entry: Entry,
): Promise<void> {
  const { cachedData } = recipe;
  // Microtask loops run after V8's own time limit has passed judgement, so there is a second clock.
  const clock = setTimeout(() => isolate.isDisposed || isolate.dispose(), EVALUATE_MS + 500);
  try {
    const module = await isolate.compileModule(recipe.bundle, {
      filename: 'function.js',
      ...(cachedData === undefined ? { produceCachedData: true } : { cachedData }),
    });
    recipe.cachedData ??= (module as { cachedData?: ivm.ExternalCopy<ArrayBuffer> }).cachedData;
    await module.instantiate(context, (specifier) => {
      throw new Error(`the bundle imports '${specifier}'; a bundle has everything inside`);
    });
    await module.evaluate({ timeout: EVALUATE_MS });
    const found = await entry.useModule.apply(undefined, [module.namespace.derefInto()], { timeout: EVALUATE_MS });
    if (found !== true) throw new Error('the module has no default export with a fetch handler');
    entry.useModule.release();
  } catch (error) {
    const message = error instanceof Error ? error.message : 'the module threw';
    throw new CfnError('CFN_FUNCTION_INVALID', message.slice(0, 1000), { cause: error });
  } finally {
    clearTimeout(clock);
  }
}
