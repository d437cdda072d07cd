import { build as bundle, type Plugin } from 'esbuild';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What `proto` exports and the program does not use stays out, its parsers of JSON documents above all. */
const onlyWhatIsUsed: Plugin = {
  name: 'only-what-is-used',
  setup(build) {
    build.onResolve({ filter: /\/proto\/|^\.\// }, async ({ path, kind, resolveDir, importer, pluginData }) => {
      if (kind === 'entry-point' || pluginData === 'resolving') return undefined;
      const found = await build.resolve(path, { kind, resolveDir, importer, pluginData: 'resolving' });
      return found.path.startsWith(`${root}proto/`) ? { path: found.path, sideEffects: false } : undefined;
    });
  },
};

/** The sandbox's program as `loader.cjs` takes it: length and text. */
export async function buildSandboxProgram(): Promise<Uint8Array> {
  const { outputFiles } = await bundle({
    entryPoints: [fileURLToPath(new URL('./main.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'cjs',
    platform: 'node',
    target: 'node24',
    external: ['isolated-vm', 'koffi'],
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    plugins: [onlyWhatIsUsed],
    logLevel: 'silent',
  });
  const text = Buffer.from(outputFiles[0]?.contents ?? []);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text]);
}
