import { availableParallelism } from 'node:os';
import { Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { leaseClockMs } from '../lease-clock.ts';
import { endAtOnce } from './end-at-once.ts';
import { runEngine } from './run-engine.ts';

/**
 * The engine process: holds one model's weights in its memory, and nothing else. The agent starts it with an empty
 * environment and one channel, on fd 3, and ends it by closing that.
 */
process.umask(0o077); // its sockets are its own user's from the moment they exist
// A trace could hold request data: end without one.
process.on('uncaughtException', () => process.exit(70));

/** Natural workloads stay below; at 60 KB each this bounds what a hostile caller can make an engine keep. */
const SHAPES_MAX = 4096;

const { values } = parseArgs({ options: { 'intra-op-threads': { type: 'string' }, 'shapes-max': { type: 'string' } } });
const intraOpThreads = numberFlag('intra-op-threads', availableParallelism());
const shapesMax = numberFlag('shapes-max', SHAPES_MAX);

runEngine({
  agent: new Socket({ fd: 3, readable: true, writable: true }),
  intraOpThreads,
  shapesMax,
  monotonicNs: () => process.hrtime.bigint(),
  leaseClockMs,
  exit: endAtOnce,
});

function numberFlag(name: keyof typeof values, otherwise: number): number {
  const number = Number(values[name] ?? otherwise);
  if (Number.isInteger(number) && number >= 1 && number <= 65_536) return number;
  console.error(`--${name} is a number, 1 to 65536`);
  process.exit(2);
}
