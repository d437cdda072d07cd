/** Element types of ONNX tensors and the typed arrays that carry them. */
export interface TensorData {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
}
export type TensorType = keyof TensorData;

/** A dense tensor, row major. `data.length` equals the product of `dims`. A global in the runtime. */
export interface Tensor<T extends TensorType = TensorType> {
  readonly type: T;
  readonly data: TensorData[T];
  readonly dims: readonly number[];
}
export interface TensorConstructor {
  /** @throws TypeError when data and dims disagree, or data is not the array that `type` needs. */
  new <T extends TensorType>(type: T, data: TensorData[T], dims: readonly number[]): Tensor<T>;
}

/** Name, element type and shape of a model's input or output; a string dimension is free. */
export interface TensorShape {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly (number | string)[];
}

/** A model binding: `env.DETECT`. */
export interface Model {
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
  /**
   * Runs the model once.
   *
   * @param feeds one tensor for each input, by name
   * @returns one tensor for each output, by name
   * @throws Error with `code` `CFN_MODEL_INPUT` when the feeds do not fit
   */
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
}

export interface ExecutionContext {
  /** Keeps the invocation alive until the promise settles, within its limits. */
  waitUntil(promise: Promise<unknown>): void;
}

/** What a function's module exports by default. */
export interface FunctionModule<Env> {
  fetch(request: Request, env: Env, ctx: ExecutionContext): Response | Promise<Response>;
}
