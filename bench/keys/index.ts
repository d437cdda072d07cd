import type { Row } from '../row.ts';
import { releases } from './releases.ts';
import { weights } from './weights.ts';

/** What keys cost: their release, and the weights they open. */
export async function keys(): Promise<Row[]> {
  return [...(await releases()), ...(await weights())];
}
