import { Tensor } from 'onnxruntime-node';
import { CfnError } from '../../proto/index.ts';
import type { TensorHeader, TensorShape, TensorType } from '../ipc/messages.ts';

type Memory = ArrayBuffer;
interface Element {
  readonly bytes: number;
  readonly view: (memory: Memory, offset: number, length: number) => ArrayBufferView;
}

const ELEMENTS: Readonly<Record<TensorType, Element>> = {
  float32: { bytes: 4, view: (memory, offset, length) => new Float32Array(memory, offset, length) },
  float64: { bytes: 8, view: (memory, offset, length) => new Float64Array(memory, offset, length) },
  float16: { bytes: 2, view: (memory, offset, length) => new Uint16Array(memory, offset, length) },
  int8: { bytes: 1, view: (memory, offset, length) => new Int8Array(memory, offset, length) },
  uint8: { bytes: 1, view: (memory, offset, length) => new Uint8Array(memory, offset, length) },
  int16: { bytes: 2, view: (memory, offset, length) => new Int16Array(memory, offset, length) },
  uint16: { bytes: 2, view: (memory, offset, length) => new Uint16Array(memory, offset, length) },
  int32: { bytes: 4, view: (memory, offset, length) => new Int32Array(memory, offset, length) },
  uint32: { bytes: 4, view: (memory, offset, length) => new Uint32Array(memory, offset, length) },
  int64: { bytes: 8, view: (memory, offset, length) => new BigInt64Array(memory, offset, length) },
  uint64: { bytes: 8, view: (memory, offset, length) => new BigUint64Array(memory, offset, length) },
  bool: { bytes: 1, view: (memory, offset, length) => new Uint8Array(memory, offset, length) },
};

export function isTensorType(type: string): type is TensorType {
  return Object.hasOwn(ELEMENTS, type);
}

export interface ReadTensors {
  readonly feeds: Readonly<Record<string, Tensor>>;
  /** Copies that had to be made; overwritten with the payload. */
  readonly copies: readonly Uint8Array[];
}

/**
 * Tensors for ORT out of a payload from a sandbox, who may send anything. They are views of the payload; only one that is
 * not aligned to its element size is copied.
 *
 * @throws {CfnError} `CFN_MODEL_INPUT` unless there is exactly one tensor for each input, of its type and shape, and the
 *   payload is as long as they say
 */
export function readTensors(
  payload: Uint8Array<ArrayBuffer>,
  headers: readonly TensorHeader[],
  inputs: readonly TensorShape[],
): ReadTensors {
  const total = headers.reduce((sum, { bytes }) => sum + bytes, 0);
  if (total !== payload.length) throw refused(`the tensors say ${total} bytes, and ${payload.length} came`);
  const missing = new Map(inputs.map((input) => [input.name, input]));
  const feeds = new Map<string, Tensor>();
  const copies: Uint8Array[] = [];
  let at = payload.byteOffset;
  for (const [i, header] of headers.entries()) {
    const input = missing.get(header.name);
    if (input === undefined)
      throw refused(`tensor ${i} is for no input of the model, or for one that has a tensor already`);
    missing.delete(header.name);
    checkShape(header, input);
    const element = ELEMENTS[header.type];
    const length = header.bytes / element.bytes;
    let [memory, offset] = [payload.buffer, at];
    if (offset % element.bytes !== 0) {
      const copy = payload.slice(at - payload.byteOffset, at - payload.byteOffset + header.bytes);
      copies.push(copy);
      [memory, offset] = [copy.buffer, 0];
    }
    const data = element.view(memory, offset, length);
    // Anything else in a C++ bool is undefined behaviour in ORT's kernels.
    if (header.type === 'bool' && (data as Uint8Array).some((value) => value > 1))
      throw refused(`input ${input.name} is bool: bytes are 0 or 1`);
    // ORT's overloads ask for a literal type; ELEMENTS pairs the two.
    feeds.set(input.name, new Tensor(header.type as 'uint8', data as Uint8Array, header.dims));
    at += header.bytes;
  }
  if (missing.size > 0) throw refused(`no tensor for input ${[...missing.keys()].join(', ')}`);
  return { feeds: Object.fromEntries(feeds), copies };
}

/** ORT reports a scalar and a tensor of unknown rank alike, as no dimensions, and checks neither; so do we. */
function checkShape({ type, dims, bytes }: TensorHeader, input: TensorShape): void {
  if (type !== input.type) throw refused(`input ${input.name} is ${input.type}, and ${type} came`);
  const said = `[${dims.join(', ')}]`;
  if (input.dims.length > 0) {
    const fits =
      dims.length === input.dims.length &&
      input.dims.every((dim, i) => typeof dim === 'string' || dim === -1 || dim === dims[i]);
    if (!fits)
      throw refused(
        `input ${input.name} has shape [${input.dims.map((dim) => (dim === '' ? '?' : dim)).join(', ')}], and ${said} came`,
      );
  }
  const elements = dims.reduce((product, dim) => product * dim, 1);
  if (!Number.isSafeInteger(elements) || elements * ELEMENTS[type].bytes !== bytes) {
    throw refused(`input ${input.name} of shape ${said} and type ${type} does not have ${bytes} bytes`);
  }
}

/** Headers and bytes of what ORT gave; the bytes are views, which the caller overwrites. */
export function writeTensors(
  outputs: Readonly<Record<string, Tensor>>,
  names: readonly string[],
): { headers: TensorHeader[]; bytes: Uint8Array[] } {
  const headers: TensorHeader[] = [];
  const bytes: Uint8Array[] = [];
  for (const name of names) {
    const tensor = outputs[name];
    if (tensor === undefined || !isTensorType(tensor.type) || !ArrayBuffer.isView(tensor.data)) {
      throw new CfnError('CFN_ENGINE_FAILED', `the model gave no tensor for output ${name}`);
    }
    const view = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    headers.push({ name, type: tensor.type, dims: [...tensor.dims], bytes: view.length });
    bytes.push(view);
  }
  return { headers, bytes };
}

function refused(what: string): CfnError {
  return new CfnError('CFN_MODEL_INPUT', what);
}
