import type { TensorHeader, TensorShape } from '../../ipc/messages.ts';
import { callHost, host } from './host.ts';
import { hostError } from './host-error.ts';
import { Tensor, TENSOR_TYPES, tensorAt } from './tensor.ts';
import { bytesOf } from './utf8.ts';

export interface ModelShapes {
  readonly binding: string;
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
}
interface Result {
  readonly tensors: readonly TensorHeader[];
  readonly bytes: ArrayBuffer;
}

/** The object behind `env.BINDING`; `index` is the binding's place in the start message. */
export function makeModel({ binding, inputs, outputs }: ModelShapes, index: number): object {
  const freeze = (shapes: readonly TensorShape[]): readonly TensorShape[] =>
    Object.freeze(
      shapes.map(({ name, type, dims }) => Object.freeze({ name, type, dims: Object.freeze(dims.slice()) })),
    );
  return Object.freeze({
    inputs: freeze(inputs),
    outputs: freeze(outputs),
    async run(feeds: unknown): Promise<Record<string, Tensor>> {
      const { layout, bytes } = packFeeds(binding, inputs, feeds);
      const result = await callHost<Result>((id) => host().run(id, index, layout, bytes));
      return unpackResult(result);
    },
  });
}

function packFeeds(
  binding: string,
  inputs: readonly TensorShape[],
  feeds: unknown,
): { layout: number[]; bytes: ArrayBuffer } {
  const refuse = (message: string): never => {
    throw hostError('CFN_MODEL_INPUT', `env.${binding}.run: ${message}`);
  };
  if (typeof feeds !== 'object' || feeds === null) return refuse('expected an object with one tensor for each input');
  for (const name of Object.keys(feeds))
    if (!inputs.some((input) => input.name === name)) refuse(`the model has no input '${name}'`);
  const layout: number[] = [];
  const parts: Uint8Array[] = [];
  let total = 0;
  inputs.forEach((input, i) => {
    const tensor: unknown = Reflect.get(feeds, input.name);
    if (!(tensor instanceof Tensor)) return refuse(`input '${input.name}' needs a Tensor`);
    // Read once: getters of a subclass could answer differently the second time.
    const { type, data, dims } = tensor;
    if (type !== input.type) refuse(`input '${input.name}' needs ${input.type}, got ${type}`);
    const fits =
      dims.length === input.dims.length &&
      input.dims.every((dim, axis) => typeof dim === 'string' || dim < 0 || dim === dims[axis]);
    if (!fits) refuse(`input '${input.name}' needs shape [${input.dims.join(', ')}], got [${dims.join(', ')}]`);
    const bytes = bytesOf(data);
    layout.push(i, TENSOR_TYPES.indexOf(type), bytes.length, dims.length, ...dims);
    parts.push(bytes);
    total += bytes.length;
  });
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { layout, bytes: bytes.buffer };
}

function unpackResult({ tensors, bytes }: Result): Record<string, Tensor> {
  const result: Record<string, Tensor> = {};
  let at = 0;
  for (const tensor of tensors) {
    result[tensor.name] = tensorAt(tensor.type, tensor.dims, bytes, at, tensor.bytes);
    at += tensor.bytes;
  }
  return result;
}
