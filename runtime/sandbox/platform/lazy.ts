import { host } from './host.ts';
import { INTRINSICS, PARTS, type PartName } from './parts.ts';
import { withStandIns } from './stand-ins.ts';
import { asInterface } from './interface.ts';

type Exports = Readonly<Record<string, unknown>>;
/** A part as the build writes it: CommonJS, in a function. */
export type PartScript = (require: (id: string) => object, module: { exports: Exports }, intrinsics: Exports) => void;

// The function may change every global and every prototype before a part is first touched. Loading uses what was there at the start
// and looks nothing up on prototypes; hence `bare`.
const { defineProperty, getOwnPropertyDescriptor, create } = Object;
const compile = Function;
const names = Object.keys(PARTS) as PartName[];

const intrinsics = Object.fromEntries(INTRINSICS.map((name) => [name, globalThis[name]]));

let core: Exports = {};
const scripts = create(null) as Partial<Record<PartName, PartScript>>;
const loaded = create(null) as Partial<Record<PartName, Exports>>;
const getters = create(null) as Record<string, () => unknown>;

/** Hands over the core's modules, by file name: what parts import of it. */
export function provideCore(modules: Exports): void {
  core = modules;
}

/** Makes a part's code known, for as long as the snapshot is being made. */
export function offerPart(name: PartName, script: PartScript): void {
  scripts[name] = script;
}
export function dropOffers(): void {
  for (let i = 0; i < names.length; i++) delete scripts[names[i] as PartName];
}

/** Whether a part was evaluated; where not, no value can be an instance of its classes. */
export const isLoaded = (name: PartName): boolean => loaded[name] !== undefined;

/** Evaluates a part, once, and makes its globals plain properties. */
export function loadPart(name: PartName): Exports {
  const known = loaded[name];
  if (known !== undefined) return known;
  const script =
    scripts[name] ?? (new compile('require', 'module', 'intrinsics', host().partSource(name)) as unknown as PartScript);
  const module: { exports: Exports } = { exports: {} };
  withStandIns(() => script(requireModule, module, intrinsics));
  loaded[name] = module.exports;
  const { globals } = PARTS[name];
  for (let i = 0; i < globals.length; i++) {
    const global = globals[i] as string;
    const value = module.exports[global];
    asInterface(global, value);
    // What the function has put in its place stays.
    if (getOwnPropertyDescriptor(globalThis, global)?.get === getters[global]) defineGlobal(global, value);
  }
  return module.exports;
}

/** What the build puts in place of an import of a part's module. */
export function lazyModule(name: PartName, exportNames: readonly string[]): object {
  const module = create(null) as object;
  defineProperty(module, '__esModule', bare({ value: true }));
  for (let i = 0; i < exportNames.length; i++) {
    const key = exportNames[i] as string;
    defineProperty(module, key, bare({ enumerable: true, get: () => loadPart(name)[key] }));
  }
  return module;
}

export function installLazyGlobals(): void {
  for (const name of names)
    for (const global of PARTS[name].globals) {
      const get = (): unknown => loadPart(name)[global];
      getters[global] = get;
      const set = (value: unknown): void => defineGlobal(global, value);
      defineProperty(globalThis, global, bare({ get, set, configurable: true, enumerable: false }));
    }
}

function requireModule(id: string): object {
  return core[id] as object;
}
function defineGlobal(name: string, value: unknown): void {
  defineProperty(globalThis, name, bare({ value, writable: true, configurable: true, enumerable: false }));
}
const bare = (descriptor: PropertyDescriptor): PropertyDescriptor => ({ __proto__: null, ...descriptor }) as object;
