import type { Row } from '../row.ts';
import { admission } from './admission.ts';
import { relay } from './relay.ts';
import { routing } from './routing.ts';
import { streams } from './streams.ts';

/** What the gateway carries, decides and admits. What it adds to a call is in `trivial`. */
export async function gateway(): Promise<Row[]> {
  return [...(await routing()), ...(await relay()), ...(await streams()), ...(await admission())];
}
