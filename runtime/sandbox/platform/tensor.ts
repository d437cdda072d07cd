import { domString } from './dom-string.ts';
import type { TensorType } from '../../ipc/messages.ts';

/** Order is the wire order between isolate and process. */
export const TENSOR_TYPES = [
  'float32',
  'float64',
  'float16',
  'int8',
  'uint8',
  'int16',
  'uint16',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'bool',
] as const satisfies readonly TensorType[];

type DataArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;
interface DataArrayConstructor {
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBuffer, offset: number, length: number): DataArray;
}
const ARRAYS: Readonly<Record<TensorType, DataArrayConstructor>> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

export class Tensor {
  readonly type: TensorType;
  readonly data: DataArray;
  readonly dims: readonly number[];

  constructor(type: TensorType, data: DataArray, dims: readonly number[]) {
    if (!Object.hasOwn(ARRAYS, type)) throw new TypeError(`'${domString(type)}' is not a tensor type`);
    const Data = ARRAYS[type];
    if (!(data instanceof (Data as unknown as new () => DataArray)))
      throw new TypeError(`a ${type} tensor needs a ${Data.name}`);
    if (!Array.isArray(dims) || !dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
      throw new TypeError('dims is an array of whole numbers');
    const elements = dims.reduce((product, dim) => product * dim, 1);
    if (elements !== data.length)
      throw new TypeError(`dims [${dims.join(', ')}] need ${elements} elements, data has ${data.length}`);
    this.type = type;
    this.data = data;
    this.dims = Object.freeze(dims.slice());
  }
  get [Symbol.toStringTag](): string {
    return 'Tensor';
  }
}

/** Makes a tensor over bytes of a frame; copies only where the type needs another alignment. */
export function tensorAt(
  type: string,
  dims: readonly number[],
  buffer: ArrayBuffer,
  offset: number,
  bytes: number,
): Tensor {
  const Data = ARRAYS[type as TensorType];
  const size = Data.BYTES_PER_ELEMENT;
  const data =
    offset % size === 0
      ? new Data(buffer, offset, bytes / size)
      : new Data(buffer.slice(offset, offset + bytes), 0, bytes / size);
  return new Tensor(type as TensorType, data, dims);
}
