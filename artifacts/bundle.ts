import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { BuildFailure, Message, Plugin } from 'esbuild';
import { BUNDLE_BYTES_MAX, CfnError, sha256Hex, type FunctionManifest } from '../proto/index.ts';
import { CONFIG_FILE, parseFunctionConfig, type FunctionConfig } from './function-config.ts';

export interface FunctionBundle {
  readonly config: FunctionConfig;
  /** One ES module: the function and all it imports. */
  readonly bundle: Uint8Array<ArrayBuffer>;
  /** What the manifest says of the bundle. */
  readonly code: FunctionManifest['code'];
}

/**
 * Reads a function project and bundles it into one ES module. The same sources give the same bytes, on any machine.
 *
 * @throws {CfnError} `CFN_CONFIG_INVALID` when the folder or its `wrangler-style.toml` is not one of a project;
 *   `CFN_BUNDLE_FAILED` with the author's line when the source does not build; `CFN_BODY_TOO_LARGE` over BUNDLE_BYTES_MAX.
 */
export async function bundleFunction({ projectDir }: { readonly projectDir: string }): Promise<FunctionBundle> {
  const config = await readFunctionConfig(projectDir);
  const bundle = await bundleModule(projectDir, config.main);
  if (bundle.length > BUNDLE_BYTES_MAX) {
    throw new CfnError('CFN_BODY_TOO_LARGE', `the bundle is ${bundle.length} bytes, the limit is ${BUNDLE_BYTES_MAX}`);
  }
  return { config, bundle, code: { digest: await sha256Hex(bundle), bytes: bundle.length } };
}

/** @throws {CfnError} `CFN_CONFIG_INVALID` when the folder has no readable configuration. */
export async function readFunctionConfig(projectDir: string): Promise<FunctionConfig> {
  let text: string;
  try {
    text = await readFile(resolve(projectDir, CONFIG_FILE), 'utf8');
  } catch (cause) {
    throw new CfnError('CFN_CONFIG_INVALID', `${projectDir} has no readable ${CONFIG_FILE}`, { cause });
  }
  return parseFunctionConfig(text);
}

async function bundleModule(projectDir: string, main: string): Promise<Uint8Array<ArrayBuffer>> {
  const root = resolve(projectDir);
  await stat(resolve(root, main)).catch((cause: unknown) => {
    throw new CfnError('CFN_CONFIG_INVALID', `${CONFIG_FILE}: main: ${main} does not exist`, { cause });
  });
  try {
    const { outputFiles } = await (
      await loadEsbuild()
    ).build({
      absWorkingDir: root, // Paths in the output are relative to it, so the digest does not depend on where the project lies.
      entryPoints: [main],
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      conditions: ['worker', 'browser'],
      target: 'es2022',
      minify: true,
      charset: 'utf8',
      legalComments: 'none',
      // The project's own settings, or none: esbuild would else take those of any folder above it.
      ...(existsSync(resolve(root, 'tsconfig.json')) ? {} : { tsconfigRaw: {} }),
      sourcemap: false,
      loader: { '.txt': 'text', '.wasm': 'binary' },
      plugins: [refuseNodeModules],
      logLevel: 'silent',
    });
    const file = outputFiles[0];
    if (file === undefined) throw new CfnError('CFN_BUNDLE_FAILED', 'esbuild gave no output');
    return new Uint8Array(file.contents);
  } catch (cause) {
    if (!isBuildFailure(cause)) throw cause;
    throw new CfnError('CFN_BUNDLE_FAILED', describe(cause.errors), { cause });
  }
}

/** A function has no Node: an import of it would build and then fail at the first call. */
const refuseNodeModules: Plugin = {
  name: 'refuse-node-modules',
  setup(builder) {
    builder.onResolve({ filter: /^node:/ }, ({ path }) => ({
      errors: [{ text: `"${path}" is not available: a function has the web platform only` }],
    }));
  },
};

function isBuildFailure(value: unknown): value is BuildFailure {
  return value instanceof Error && 'errors' in value && Array.isArray(value.errors);
}

/** `file:line:column: text`, with the line itself, for the first errors; more would only be their consequences. */
function describe(errors: readonly Message[]): string {
  const shown = errors.slice(0, 3).map(({ text, location }) => {
    if (location === null) return text;
    const source = location.lineText.trim().slice(0, 120); // A minified dependency is one line of any length.
    return `${location.file}:${location.line}:${location.column + 1}: ${text} | ${source}`;
  });
  const more = errors.length - shown.length;
  return shown.join('; ') + (more > 0 ? `; and ${more} more` : '');
}

/** On first use: the worker imports this room, too, and has no use for a bundler. */
const loadEsbuild = (): Promise<typeof import('esbuild')> => import('esbuild');
