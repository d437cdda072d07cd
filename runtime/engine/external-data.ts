import { ByteReader, CfnError, fromUtf8 } from '../../proto/index.ts';
import type { ModelFiles } from './model-loader.ts';

/**
 * A model may keep tensors in other files. What ORT is not given it looks for on the disk, `../` included: a model could
 * read the worker's files. So before ORT sees it, every external tensor must lie inside a file of the package.
 *
 * Walks the protobuf of onnx.proto3 (onnx/onnx, IR version 13 and before), only where tensors can be.
 *
 * @throws {CfnError} `CFN_ENGINE_FAILED`
 */
export function checkExternalData(model: Uint8Array, files: ModelFiles): void {
  walk(model, MODEL, (tensor) => checkTensor(tensor, files), 0);
}

/** Field number → the message in it, or `tensor`; other fields hold no tensors. */
interface MessageType {
  readonly [field: number]: MessageType | 'tensor';
}
const GRAPH: Record<number, MessageType | 'tensor'> = {};
const ATTRIBUTE: MessageType = {
  5: 'tensor',
  6: GRAPH,
  10: 'tensor',
  11: GRAPH,
  22: { 1: 'tensor', 2: 'tensor' }, // SparseTensorProto: values, indices
  23: { 1: 'tensor', 2: 'tensor' },
};
const NODE: MessageType = { 5: ATTRIBUTE };
GRAPH[1] = NODE;
GRAPH[5] = 'tensor';
GRAPH[15] = { 1: 'tensor', 2: 'tensor' };
const MODEL: MessageType = {
  7: GRAPH,
  20: { 1: GRAPH, 2: GRAPH }, // TrainingInfoProto: initialization, algorithm
  25: { 7: NODE, 11: ATTRIBUTE }, // FunctionProto: node, attribute_proto
};
const TENSOR_EXTERNAL_DATA = 13;
const TENSOR_DATA_LOCATION = 14;

/** Largest tensor that ORT takes from memory, in bytes; the file may be larger. */
const TENSOR_BYTES_MAX = 2 ** 31;

/** Depth of messages in messages; protobuf itself stops at 100. */
const DEPTH_MAX = 100;

function walk(bytes: Uint8Array, type: MessageType, onTensor: (tensor: Uint8Array) => void, depth: number): void {
  if (depth > DEPTH_MAX) throw malformed('is nested too deeply');
  for (const { field, bytes: inner } of fields(bytes)) {
    const innerType = type[field];
    if (innerType === undefined || inner === undefined) continue;
    if (innerType === 'tensor') onTensor(inner);
    else walk(inner, innerType, onTensor, depth + 1);
  }
}

function checkTensor(tensor: Uint8Array, files: ModelFiles): void {
  let external = false;
  const entries = new Map<string, string>();
  for (const { field, bytes, value } of fields(tensor)) {
    if (field === TENSOR_DATA_LOCATION && value !== 0n) external = true;
    if (field !== TENSOR_EXTERNAL_DATA || bytes === undefined) continue;
    external = true;
    const [key, text] = readEntry(bytes);
    // Twice the same key: which one counts is the reader's taste, and ours may not be ORT's.
    if (entries.has(key)) throw malformed(`names ${key} of an external tensor twice`);
    entries.set(key, text);
  }
  if (!external) return;
  const file = files.get(entries.get('location') ?? '');
  if (file === undefined) throw malformed('has an external tensor whose file is not in the package');
  const offset = readNumber(entries.get('offset') ?? '0');
  const length = readNumber(entries.get('length') ?? '0');
  if (offset + length > file.length) throw malformed('has an external tensor that ends past its file');
  // Said here, because ORT's own words are not passed on.
  if ((length || file.length - offset) > TENSOR_BYTES_MAX)
    throw malformed('has a tensor over 2 GiB, which ONNX Runtime does not take from memory');
}

function readEntry(bytes: Uint8Array): [key: string, value: string] {
  const parts: Record<number, string> = {};
  for (const { field, bytes: text } of fields(bytes)) {
    if (text === undefined || parts[field] !== undefined) throw malformed('has a malformed external tensor');
    parts[field] = fromUtf8(text, 'CFN_ENGINE_FAILED');
  }
  return [parts[1] ?? '', parts[2] ?? ''];
}

function readNumber(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw malformed('has an external tensor without a sound offset or length');
  return Number(text);
}

interface Field {
  readonly field: number;
  /** Of a varint. */
  readonly value?: bigint;
  /** Of a length-delimited field: a view. */
  readonly bytes?: Uint8Array;
}

/** Fields of one message (protobuf.dev/programming-guides/encoding). Groups are refused: ONNX has none. */
function* fields(bytes: Uint8Array): Generator<Field> {
  const reader = new ByteReader(bytes, 'CFN_ENGINE_FAILED');
  while (reader.remaining > 0) {
    const tag = readVarint(reader);
    // Other readers cut a tag to 32 bits and would see another field than we.
    if (tag > 0xffff_ffffn) throw malformed('has a field number that is too large');
    const field = Number(tag >> 3n);
    switch (Number(tag & 7n)) {
      case 0:
        yield { field, value: readVarint(reader) };
        break;
      case 1:
        reader.take(8, 'fixed64');
        break;
      case 2:
        yield { field, bytes: reader.take(Number(readVarint(reader)), 'message') };
        break;
      case 5:
        reader.take(4, 'fixed32');
        break;
      default:
        throw malformed('is not a protobuf message of ONNX');
    }
  }
}

function readVarint(reader: ByteReader): bigint {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = reader.u8('varint');
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return BigInt.asUintN(64, value);
  }
  throw malformed('has a number that is too long');
}

function malformed(what: string): CfnError {
  return new CfnError('CFN_ENGINE_FAILED', `the ONNX model ${what}`);
}
