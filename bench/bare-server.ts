import { writeFileSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { InferenceSession, Tensor as OrtTensor, type TypedTensor } from 'onnxruntime-node';
import { bundleFunction } from '../artifacts/index.ts';
import type { FunctionModule, Model, Tensor, TensorType } from '../functions/index.ts';

/**
 * What a user would take instead: the same function, from the same bundle, in a bare Hono server with onnxruntime-node.
 * Usage: node bench/bare-server.ts PROJECT [BINDING=FILE.onnx …]; prints {"ready":true,"url":…}.
 */
class PlainTensor<T extends TensorType> implements Tensor<T> {
  readonly type: T;
  readonly data: Tensor<T>['data'];
  readonly dims: readonly number[];
  constructor(type: T, data: Tensor<T>['data'], dims: readonly number[]) {
    this.type = type;
    this.data = data;
    this.dims = dims;
  }
}

function shapes(list: readonly InferenceSession.ValueMetadata[]): Model['inputs'] {
  return list.map((value) => ({
    name: value.name,
    type: value.isTensor ? value.type : '',
    dims: value.isTensor ? [...value.shape] : [],
  }));
}

async function bind(file: string): Promise<Model> {
  const session = await InferenceSession.create(file);
  return {
    inputs: shapes(session.inputMetadata),
    outputs: shapes(session.outputMetadata),
    async run(feeds) {
      const ortFeeds = Object.fromEntries(
        Object.entries(feeds).map(([name, { type, data, dims }]) => [
          name,
          new OrtTensor(type as 'float32', data as Float32Array, dims),
        ]),
      );
      const results = await session.run(ortFeeds);
      return Object.fromEntries(
        Object.entries(results).map(([name, result]) => {
          const { type, data, dims } = result as TypedTensor<'float32'>;
          return [name, new PlainTensor(type, data as Float32Array, dims)];
        }),
      );
    },
  };
}

const [projectDir = '', ...bindings] = process.argv.slice(2);
const { bundle } = await bundleFunction({ projectDir });
Object.assign(globalThis, { Tensor: PlainTensor });
const file = join(mkdtempSync(join(tmpdir(), 'cfn-bench-')), 'bundle.mjs');
writeFileSync(file, bundle);
const { default: module_ } = (await import(pathToFileURL(file).href)) as {
  default: FunctionModule<Record<string, Model>>;
};
const env: Record<string, Model> = {};
for (const binding of bindings) {
  const [name = '', path = ''] = binding.split('=');
  env[name] = await bind(path);
}
const app = new Hono();
app.all('*', (c) => module_.fetch(c.req.raw, env, { waitUntil: () => undefined }));
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) => {
  console.log(JSON.stringify({ ready: true, url: `http://127.0.0.1:${port}` }));
});
process.once('SIGTERM', () => {
  server.close();
  process.exit(0);
});
