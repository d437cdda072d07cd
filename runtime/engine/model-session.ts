import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { MODEL_ENTRY } from '../../artifacts/index.ts';
import { CfnError } from '../../proto/index.ts';
import type { TensorShape } from '../ipc/messages.ts';
import { checkExternalData } from './external-data.ts';
import type { ModelFiles } from './model-loader.ts';
import { isTensorType } from './tensors.ts';

/** A loaded model. */
export interface ModelSession {
  readonly inputs: readonly TensorShape[];
  /** Outputs that are tensors of a type that we carry; a model may have others, which nobody can ask for. */
  readonly outputs: readonly TensorShape[];
  /**
   * It has run on so many shapes that it should be made anew: ORT keeps the memory pattern of each, tens of kilobytes, for as long as
   * the session lives, and whoever calls chooses the shapes.
   */
  readonly worn: boolean;
  /**
   * Runs once, on this thread.
   *
   * @param outputs names to compute, of `outputs`
   * @throws {CfnError} `CFN_ENGINE_FAILED`, without what ORT says: its messages can hold values of the tensors
   */
  run(feeds: Readonly<Record<string, Tensor>>, outputs: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
}

/**
 * Makes an ONNX Runtime session from memory. ORT copies what it needs, so the caller overwrites the files afterwards.
 *
 * @throws {CfnError} `CFN_ENGINE_FAILED` when it is no model that we can run
 */
export async function createModelSession(
  files: ModelFiles,
  options: { readonly intraOpThreads: number; readonly shapesMax: number },
): Promise<ModelSession> {
  const entry = files.get(MODEL_ENTRY);
  if (entry === undefined) throw new CfnError('CFN_ENGINE_FAILED', `the model has no ${MODEL_ENTRY}`);
  checkExternalData(entry, files);
  const graph = new Uint8Array(entry); // ORT takes shared memory for external data, and for this not
  const session = await create(graph, {
    executionProviders: ['cpu'],
    // No arena: it keeps freed tensors of one request for the next. A memory pattern holds no tensor: it is the plan by which all
    // tensors of a run come from one block, so that there is one to overwrite and not hundreds.
    enableCpuMemArena: false,
    enableMemPattern: true,
    intraOpNumThreads: options.intraOpThreads,
    interOpNumThreads: 1,
    logSeverityLevel: 4,
    // ORT's own format would bypass the check of external data above.
    // Threads that spin while they wait take the processors from sandboxes and other engines.
    extra: { session: { load_model_format: 'ONNX', intra_op: { allow_spinning: '0' } } },
    externalData: [...files].filter(([path]) => path !== MODEL_ENTRY).map(([path, data]) => ({ path, data })),
  }).finally(() => graph.fill(0));
  const inputs = session.inputMetadata.map((input) => {
    const shape = shapeOf(input);
    if (shape === undefined) throw new CfnError('CFN_ENGINE_FAILED', `input ${input.name} is not a tensor of numbers`);
    return shape;
  });
  const outputs = session.outputMetadata.map(shapeOf).filter((shape) => shape !== undefined);
  if (outputs.length === 0) throw new CfnError('CFN_ENGINE_FAILED', 'no output of the model is a tensor of numbers');
  const shapes = new Set<string>();
  return {
    inputs,
    outputs,
    get worn() {
      return shapes.size > options.shapesMax;
    },
    async run(feeds, names) {
      shapes.add(inputs.map(({ name }) => feeds[name]?.dims.join('x')).join(';'));
      try {
        return await session.run(feeds, names);
      } catch {
        throw new CfnError('CFN_ENGINE_FAILED', 'the model failed on these inputs');
      }
    },
  };
}

async function create(entry: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(entry, options);
  } catch {
    throw new CfnError('CFN_ENGINE_FAILED', 'ONNX Runtime does not take the model');
  }
}

function shapeOf(metadata: InferenceSession.ValueMetadata): TensorShape | undefined {
  if (!metadata.isTensor || !isTensorType(metadata.type)) return undefined;
  return { name: metadata.name, type: metadata.type, dims: [...metadata.shape] };
}
