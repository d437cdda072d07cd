import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { build, type BuildOptions } from 'esbuild';
import ivm from 'isolated-vm';
import * as onnx from 'onnxruntime-node';
import type { FunctionModule, Model, Tensor, TensorData, TensorType } from '../sdk/index.ts';

/** What a deployed bundle may count on. Nothing of Node: whatever resolves to it must fail here. */
const BUNDLE_OPTIONS: BuildOptions = {
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
  loader: { '.txt': 'text', '.wasm': 'binary' },
};

export interface Example {
  readonly source: string;
  /** Sends a request to the function, whose bindings are `env`. */
  fetch(request: Request, env: Record<string, Model>): Promise<Response>;
}

/** Bundles an example as a deploy does, and loads it. */
export async function loadExample(name: 'ocr' | 'vad'): Promise<Example> {
  const entry = fileURLToPath(new URL(`${name}/src/index.ts`, import.meta.url));
  const { outputFiles } = await build({ ...BUNDLE_OPTIONS, entryPoints: [entry] });
  const source = outputFiles?.[0]?.text ?? '';
  Object.assign(globalThis, { Tensor: CheckedTensor });
  const url = `data:text/javascript;base64,${Buffer.from(source).toString('base64')}`;
  const module = (await import(/* @vite-ignore */ url)) as { default: FunctionModule<Record<string, Model>> };
  const ctx = { waitUntil: () => undefined };
  return { source, fetch: async (request, env) => module.default.fetch(request, env, ctx) };
}

/**
 * Evaluates a bundle where there is nothing but ECMAScript and what the runtime adds that it needs while it loads.
 *
 * @returns the type of its default export's `fetch`
 * @throws Error when it imports anything, or needs anything else to load
 */
export async function evaluateInBareIsolate(source: string): Promise<unknown> {
  const isolate = new ivm.Isolate({ memoryLimit: 64 });
  try {
    const context = await isolate.createContext();
    await context.eval('globalThis.TextDecoder = globalThis.TextEncoder = class {};');
    const module = await isolate.compileModule(source);
    await module.instantiate(context, (specifier) => {
      throw new Error(`the bundle imports ${specifier}`);
    });
    await module.evaluate();
    const entry = (await module.namespace.get('default', { reference: true })) as ivm.Reference<{ fetch: unknown }>;
    return (await entry.get('fetch', { reference: true })).typeof;
  } finally {
    isolate.dispose();
  }
}

/** A model of an installed package as a binding. */
export async function loadModel(path: string): Promise<Model> {
  const file = createRequire(import.meta.url)
    .resolve.paths(path)
    ?.map((folder) => `${folder}/${path}`);
  const session = await onnx.InferenceSession.create(await firstOf(file ?? []), { intraOpNumThreads: 2 });
  const shapes = (list: readonly onnx.InferenceSession.ValueMetadata[]) =>
    list.map((value) => ({
      name: value.name,
      type: value.isTensor ? value.type : '',
      dims: value.isTensor ? value.shape : [],
    }));
  return {
    inputs: shapes(session.inputMetadata),
    outputs: shapes(session.outputMetadata),
    run: async (feeds) => {
      const given = Object.entries(feeds).map(([name, { type, data, dims }]) => {
        return [name, new onnx.Tensor(type as 'float32', data as Float32Array, dims)] as const;
      });
      const outputs = await session.run(Object.fromEntries(given));
      const taken = Object.entries(outputs).map(([name, { type, data, dims }]) => {
        return [name, new CheckedTensor(type as 'float32', data as Float32Array, dims)] as const;
      });
      return Object.fromEntries(taken);
    },
  };
}

/** A recorded input of test/fixtures/inputs. */
export async function fixture(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(new URL(`../../test/fixtures/inputs/${name}`, import.meta.url)));
}

export function post(body: Uint8Array<ArrayBuffer>): Request {
  return new Request('https://example.test/', { method: 'POST', body });
}

async function firstOf(paths: readonly string[]): Promise<Uint8Array> {
  for (const path of paths) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- the first that exists
      return await readFile(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`none of these exists: ${paths.join(', ')}`);
}

const ARRAYS: { readonly [T in TensorType]?: new (length: number) => TensorData[T] } = {
  float32: Float32Array,
  int64: BigInt64Array,
};

/** The runtime's global, for the element types that the examples use. */
class CheckedTensor<T extends TensorType> implements Tensor<T> {
  readonly type: T;
  readonly data: TensorData[T];
  readonly dims: readonly number[];

  constructor(type: T, data: TensorData[T], dims: readonly number[]) {
    const kind = ARRAYS[type];
    if (kind === undefined || !(data instanceof kind)) throw new TypeError(`tensor data do not fit type ${type}`);
    if (data.length !== dims.reduce((product, dim) => product * dim, 1))
      throw new TypeError('tensor data do not fit dims');
    this.type = type;
    this.data = data;
    this.dims = dims;
  }
}
