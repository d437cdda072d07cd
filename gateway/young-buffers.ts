import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** After so many bytes of bodies their buffers are collected. Fewer cost a collection too often, more are found too late (below). */
const BYTES = 12 * 1024 * 1024;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as (how: { readonly type: 'minor' }) => void;
let carried = 0;

/**
 * To be told of each piece of a body. Its buffers, and the copies that gRPC and TLS make of it, lie outside of V8's heap, and die young; but
 * V8 looks for them only when objects fill its young space, which hardly any do, or when 64 MB of them have come together: then by
 * marking the whole heap. That was half of the processor time of a gateway with large bodies, and most of what it held. The young space
 * alone is looked through in a millisecond.
 */
export function carriedBody(bytes: number): void {
  carried += bytes;
  if (carried < BYTES) return;
  carried = 0;
  collect({ type: 'minor' });
}
