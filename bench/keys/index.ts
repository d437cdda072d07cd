import type { Row } from '../row.ts';
import { weights } from './weights.ts';

/** What keys cost: the weights they open. */
export async function keys(): Promise<Row[]> {
  return [...(await weights())];
}
