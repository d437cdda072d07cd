import { build as bundle, type Metafile, type Plugin } from 'esbuild';
import { basename, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { INTRINSICS, PARTS, type PartName } from './platform/parts.ts';
import type { PlatformSource } from './platform-image.ts';

const folder = fileURLToPath(new URL('./platform/', import.meta.url));
const local = (file: string): string => `${folder}${file}`;
const partNames = Object.keys(PARTS) as PartName[];
const entryOf = (name: PartName): string => local(PARTS[name].module);
const partOf = new Map(partNames.map((name) => [entryOf(name), name]));

/**
 * The web platform as scripts for a bare isolate, as JSON text: a core, and the parts of `platform/parts.ts`. It is our code only;
 * nothing of a function is in it.
 */
export async function buildPlatformSource(): Promise<string> {
  const exportNames = await readExports();
  const { metafile } = await bundleOne({ entryPoints: [local('boot.ts')] }, [lazyImports(exportNames)]);
  const inCore = new Set(ourInputs(metafile));
  const parts = await Promise.all(partNames.map((name) => bundlePart(name, inCore, exportNames)));
  refuseShared(parts);
  const imported = new Set(parts.flatMap((part) => [...part.imported]));
  const source: PlatformSource = {
    core: await bundleCore(imported, exportNames),
    parts: Object.fromEntries(parts.map(({ name, source: code }) => [name, code])) as Record<PartName, string>,
  };
  return JSON.stringify(source);
}

type ExportNames = Readonly<Record<PartName, readonly string[]>>;

interface BundledPart {
  readonly name: PartName;
  readonly source: string;
  /** Files of the core that it imports. */
  readonly imported: ReadonlySet<string>;
  readonly inputs: readonly string[];
}

async function bundleOne(
  entry: { entryPoints: string[] } | { stdin: { contents: string; resolveDir: string } },
  plugins: readonly Plugin[],
): Promise<{ text: string; metafile: Metafile }> {
  const result = await bundle({
    ...entry,
    bundle: true,
    write: false,
    metafile: true,
    format: 'cjs',
    platform: 'browser',
    target: 'es2024',
    // Not identifiers: class names are part of the platform.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    plugins: [...plugins, standIns],
    logLevel: 'silent',
  });
  return { text: result.outputFiles[0]?.text ?? '', metafile: result.metafile };
}

async function readExports(): Promise<ExportNames> {
  const result = await bundle({
    entryPoints: partNames.map(entryOf),
    outdir: folder,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    packages: 'external',
    logLevel: 'silent',
  });
  const outputs = Object.values(result.metafile.outputs);
  return Object.fromEntries(
    partNames.map((name) => {
      const output = outputs.find(({ entryPoint }) => basename(entryPoint ?? '') === PARTS[name].module);
      return [name, output?.exports ?? []];
    }),
  ) as unknown as ExportNames;
}

/** The core in a function, so that its variables are not globals. Its own modules are put together by the bundler. */
async function bundleCore(imported: ReadonlySet<string>, exportNames: ExportNames): Promise<string> {
  const files = [...imported].toSorted();
  const contents = [
    `import { provideCore } from './lazy.ts';`,
    ...files.map((file, i) => `import * as m${i} from ${JSON.stringify(file)};`),
    `import './boot.ts';`,
    `provideCore({ __proto__: null, ${files.map((file, i) => `${JSON.stringify(idOf(file))}: m${i}`).join(', ')} });`,
  ].join('\n');
  const { text } = await bundleOne({ stdin: { contents, resolveDir: folder } }, [lazyImports(exportNames)]);
  return `(function () { "use strict"; ${text} })();`;
}

async function bundlePart(name: PartName, inCore: ReadonlySet<string>, exportNames: ExportNames): Promise<BundledPart> {
  const imported = new Set<string>();
  const fromCore: Plugin = {
    name: 'from-core',
    setup(build) {
      build.onResolve({ filter: /./ }, async ({ path, kind, resolveDir, importer, pluginData }) => {
        if (kind === 'entry-point' || pluginData === 'resolving') return undefined;
        const found = await build.resolve(path, { kind, resolveDir, importer, pluginData: 'resolving' });
        if (!inCore.has(found.path)) return undefined;
        imported.add(found.path);
        return { path: idOf(found.path), external: true };
      });
    },
  };
  const { text, metafile } = await bundleOne({ entryPoints: [entryOf(name)] }, [
    fromCore,
    lazyImports(exportNames, name),
  ]);
  const source = `"use strict"; const { ${INTRINSICS.join(', ')} } = intrinsics; { ${text} }`;
  return { name, source, imported, inputs: ourInputs(metafile) };
}

const idOf = (file: string): string => relative(folder, file);

/** Puts a stand-in in place of each import of another part's module: `lazyModule` loads it when something of it is used. */
function lazyImports(exportNames: ExportNames, self?: PartName): Plugin {
  return {
    name: 'lazy-imports',
    setup(build) {
      build.onResolve({ filter: /\.ts$/ }, ({ path, kind, resolveDir }) => {
        const part = kind === 'entry-point' ? undefined : partOf.get(`${resolveDir}/${basename(path)}`);
        return part === undefined || part === self ? undefined : { path: part, namespace: 'lazy' };
      });
      build.onLoad({ filter: /./, namespace: 'lazy' }, ({ path }) => ({
        // CommonJS, because its imports are read where they are used.
        contents: `module.exports = require('./lazy.ts').lazyModule('${path}', ${JSON.stringify(exportNames[path as PartName])});`,
        resolveDir: folder,
      }));
    },
  };
}

/** Modules of ours in a bundle: two copies of one would be two sets of classes. */
function ourInputs(metafile: Metafile): string[] {
  return Object.keys(metafile.inputs)
    .filter((file) => file.endsWith('.ts') && !file.includes('node_modules/') && !file.startsWith('<'))
    .map((file) => resolve(file));
}

export function refuseShared(parts: readonly BundledPart[]): void {
  const owner = new Map<string, PartName>();
  for (const { name, inputs } of parts)
    for (const file of inputs) {
      const other = owner.get(file);
      if (other !== undefined)
        throw new Error(`${idOf(file)} is in the parts ${other} and ${name}: make it a part, or import it in the core`);
      owner.set(file, name);
    }
}

/** Keeps tables out of the way: see the stand-ins. */
const standIns: Plugin = {
  name: 'stand-ins',
  setup(build) {
    build.onResolve({ filter: /\/errors\.ts$/ }, () => ({ path: local('cfn-error.ts') }));
    build.onResolve({ filter: /^tr46$/ }, ({ importer }) =>
      importer.endsWith('idna.ts') ? undefined : { path: local('domain-to-ascii.ts') },
    );
    build.onResolve({ filter: /^@exodus\/bytes\/whatwg\.js$/ }, () => ({ path: local('percent-encode.ts') }));
    build.onResolve({ filter: /^@exodus\/bytes\/encoding\.js$/ }, ({ importer }) =>
      importer.endsWith('legacy-encodings.ts') ? undefined : { path: 'legacy-encodings', namespace: 'empty' },
    );
    // There are no decoders below ours for it to build on.
    build.onResolve({ filter: /\/(platform|utf8\.auto|bytes\/utf16)\.js$/ }, ({ importer, path }) => {
      const [folder] = importer.split(/(?<=\/@exodus\/bytes\/)/);
      if (folder === undefined || folder === importer) return undefined;
      const name = path.slice(path.lastIndexOf('/') + 1, -'.js'.length);
      return { path: `${folder}${name === 'utf16' ? '' : 'fallback/'}${name}.native.js` };
    });
    build.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: '' }));
  },
};
