import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What may run in a jail: a worker's two kinds of process, and the probe that looks at the jail from inside. */
export type Kind = 'sandbox' | 'engine' | 'probe';

/** Where the code lies inside. */
const HOME = '/cfn';
export const NODE = '/cfn/bin/node';

const root = fileURLToPath(new URL('../..', import.meta.url));

const ENTRIES: Readonly<Record<Kind, string>> = {
  sandbox: 'runtime/sandbox/loader.cjs',
  engine: 'runtime/engine/main.ts',
  probe: 'runtime/jail/main.ts',
};
/**
 * Parts of this project that each kind imports, and nothing else of it. `package.json` says that they are ES modules. A sandbox gets its
 * program over its socket.
 */
const SOURCES: Readonly<Record<Kind, readonly string[]>> = {
  sandbox: [ENTRIES.sandbox],
  engine: ['package.json', 'proto', 'artifacts', 'runtime/lease-clock.ts', 'runtime/ipc', 'runtime/engine'],
  probe: ['package.json', 'runtime/jail'],
};
const KOFFI = ['koffi', `@koromix/koffi-linux-${process.arch}`];
const PACKAGES: Readonly<Record<Kind, readonly string[]>> = {
  sandbox: ['isolated-vm', 'node-gyp-build', ...KOFFI],
  engine: ['zod', 'jose', 'hpke', 'smol-toml', 'onnxruntime-node', 'onnxruntime-common', ...KOFFI],
  probe: [],
};

/** Files and folders to be seen read-only: path outside, path inside. */
export function visibleFiles(kind: Kind): readonly (readonly [outside: string, inside: string])[] {
  const code = [...SOURCES[kind], ...PACKAGES[kind].map((name) => `node_modules/${name}`)];
  return [
    ...sharedLibraries().map((path) => [path, path] as const),
    [process.execPath, NODE],
    ...code.map((path) => [join(root, path), join(HOME, path)] as const),
  ];
}

/** The program of a kind, seen from outside or from inside. */
export function entryFile(kind: Kind, from: 'outside' | 'inside'): string {
  return join(from === 'inside' ? HOME : root, ENTRIES[kind]);
}

/** Libraries of C and C++ that Node and the native modules link to, and the loader. */
const LIBRARY = /^(ld-linux[^/]*|ld64|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|atomic))\.so(\.\d+)*$/;
/** Needed by ONNX Runtime and not by Node; beside the C library. */
const BESIDE_LIBC = 'librt.so.1';
let libraries: readonly string[] | undefined;

/** Where the loader found them for this very process: the same Node will look there again. */
function sharedLibraries(): readonly string[] {
  if (libraries !== undefined) return libraries;
  const report = process.report as typeof process.report & { excludeNetwork: boolean }; // missing in @types/node 24.19
  report.excludeNetwork = true; // it resolves names otherwise
  const { sharedObjects } = report.getReport() as unknown as { readonly sharedObjects: readonly string[] };
  const found = sharedObjects.filter((path) => path.startsWith('/') && LIBRARY.test(basename(path)));
  const libc = found.find((path) => basename(path) === 'libc.so.6');
  const more = libc === undefined ? [] : [join(dirname(libc), BESIDE_LIBC)].filter((path) => existsSync(path));
  return (libraries = [...new Set([...found, ...more])]);
}
