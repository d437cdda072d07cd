import type { Row } from '../row.ts';
import { relay } from './relay.ts';

/** What the gateway adds, carries and decides. */
export async function gateway(): Promise<Row[]> {
  return [...(await relay())];
}
