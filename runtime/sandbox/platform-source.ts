import { build as bundle, stop, type Plugin } from 'esbuild';
import { fileURLToPath } from 'node:url';

const local = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Keeps IDNA and legacy encoding tables out of the way: see the stand-ins. */
const leanUrl: Plugin = {
  name: 'lean-url',
  setup(build) {
    build.onResolve({ filter: /^tr46$/ }, ({ importer }) =>
      importer.endsWith('domain-to-ascii.ts') ? undefined : { path: local('./platform/domain-to-ascii.ts') },
    );
    build.onResolve({ filter: /^@exodus\/bytes\/whatwg\.js$/ }, () => ({
      path: local('./platform/percent-encode.ts'),
    }));
    build.onResolve({ filter: /^@exodus\/bytes\/encoding\.js$/ }, () => ({
      path: 'legacy-encodings',
      namespace: 'empty',
    }));
    build.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: '' }));
  },
};

/** The web platform as one script for a bare isolate. It is our code only; nothing of a function is in it. */
export async function buildPlatformSource(): Promise<string> {
  const result = await bundle({
    entryPoints: [local('./platform/boot.ts')],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2024',
    // Not identifiers: class names are part of the platform.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    plugins: [leanUrl],
    logLevel: 'silent',
  });
  await stop();
  return result.outputFiles[0]?.text ?? '';
}
