import ivm from 'isolated-vm';
import { CfnError } from '../../proto/index.ts';
import type { BootOptions } from './platform/boot.ts';
import { TOLD, type HostEvent, type InvocationCalls } from './platform/host.ts';
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
/** A bundle that takes less time to compile than a hop to another thread and back. It is only parsed here; it runs elsewhere. */
const COMPILE_HERE_CHARACTERS_MAX = 32 * 1024;

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
    const context = isolate.createContextSync();
    if (snapshot === undefined)
      for (const { code, filename } of platformScripts(recipe.platform, recipe.loaded))
        await (await isolate.compileScript(code, { filename })).run(context);
    let calls: InvocationCalls | undefined;
    const entry = boot(context, () => calls, random, recipe);
    await evaluateBundle(isolate, context, recipe, entry);
    return {
      isolate,
      cpuBefore: isolate.cpuTime,
      send: (...event) => entry.applyIgnored(undefined, event.map(handOver)),
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

/** What `boot` returns: takes events, `module` among them. */
type Entry = ivm.Reference<(...event: unknown[]) => unknown>;

/** Our own code only, and little of it, so it runs here: a hop to another thread costs more. */
function boot(
  context: ivm.Context,
  calls: () => InvocationCalls | undefined,
  random: (length: number) => ArrayBuffer,
  { options, platform }: IsolateRecipe,
): Entry {
  // `ignored`: the isolate goes on without waiting, and sees nothing of what happens here.
  const tell = new ivm.Callback(
    (name: string, ...args: unknown[]) => {
      const host = calls();
      if (host === undefined || !isTold(name)) return;
      (host[name] as (...given: unknown[]) => void)(...args);
    },
    { ignored: true },
  );
  const ask = new ivm.Callback((name: string, argument: unknown) => {
    if (name === 'random') return random(argument as number);
    if (name === 'partSource' && Object.hasOwn(PARTS, argument as string)) return platform.parts[argument as PartName];
    throw new TypeError('there is no such call');
  });
  return context.evalClosureSync(BOOT, [tell, ask, new ivm.ExternalCopy(options).copyInto({ release: true })], {
    result: { reference: true },
    filename: 'cfn:boot',
  }) as unknown as Entry;
}
const BOOT = `const boot = globalThis.__boot; delete globalThis.__boot; return boot({ tell: $0, ask: $1 }, $2);`;
const isTold = (name: string): name is (typeof TOLD)[number] => (TOLD as readonly string[]).includes(name);

async function evaluateBundle(
  isolate: ivm.Isolate,
  context: ivm.Context,
  recipe: IsolateRecipe,
  entry: Entry,
): Promise<void> {
  // Microtask loops run after V8's own time limit has passed judgement, so there is a second clock.
  const clock = setTimeout(() => isolate.isDisposed || isolate.dispose(), EVALUATE_MS + 500);
  try {
    // No code cache: isolated-vm 7.0.1 takes one for a module, and does not use it.
    const source = { filename: 'function.js' };
    const module =
      recipe.bundle.length <= COMPILE_HERE_CHARACTERS_MAX
        ? isolate.compileModuleSync(recipe.bundle, source)
        : await isolate.compileModule(recipe.bundle, source);
    module.instantiateSync(context, (specifier) => {
      throw new Error(`the bundle imports '${specifier}'; a bundle has everything inside`);
    });
    await module.evaluate({ timeout: EVALUATE_MS });
    const found = await entry.apply(undefined, ['module', module.namespace.derefInto()], { timeout: EVALUATE_MS });
    if (found !== true) throw new Error('the module has no default export with a fetch handler');
  } catch (error) {
    const message = error instanceof Error ? error.message : 'the module threw';
    throw new CfnError('CFN_FUNCTION_INVALID', message.slice(0, 1000), { cause: error });
  } finally {
    clearTimeout(clock);
  }
}
