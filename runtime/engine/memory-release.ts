import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';

/**
 * Gives freed memory back to the system: after a load, our plaintext and what ONNX Runtime read it into are as large as the weights, and
 * this process neither collects garbage while it waits for calls, nor trims its heap (`agent/child-process.ts` says why).
 */
export function giveBackFreed(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
  koffi.load(null).func('int malloc_trim(size_t keep)')(0);
}
