import { CfnError } from '../../proto/index.ts';
import type { TensorHeader } from '../ipc/messages.ts';
import { TENSOR_TYPES } from './platform/tensor.ts';

const RANK_MAX = 32;

/**
 * Reads what an isolate says about the tensors of a call: index of the input, index of the type, bytes, rank, dims…, for each.
 * The isolate's own check is not relied on here.
 *
 * @throws {CfnError} `CFN_MODEL_INPUT` when it does not describe `payloadBytes` bytes
 */
export function readLayout(layout: readonly number[], names: readonly string[], payloadBytes: number): TensorHeader[] {
  const refuse = (): never => {
    throw new CfnError('CFN_MODEL_INPUT', 'the tensors do not fit their description');
  };
  if (!Array.isArray(layout) || !layout.every((value) => Number.isSafeInteger(value) && value >= 0)) refuse();
  const tensors: TensorHeader[] = [];
  let at = 0;
  let total = 0;
  while (at < layout.length) {
    const [input, typeIndex, bytes, rank] = layout.slice(at, at + 4);
    const name = names[input ?? -1];
    const type = TENSOR_TYPES[typeIndex ?? -1];
    if (name === undefined || type === undefined || bytes === undefined || rank === undefined || rank > RANK_MAX)
      return refuse();
    const dims = layout.slice(at + 4, at + 4 + rank);
    if (dims.length !== rank) return refuse();
    tensors.push({ name, type, dims, bytes });
    at += 4 + rank;
    total += bytes;
  }
  if (total !== payloadBytes) refuse();
  return tensors;
}
