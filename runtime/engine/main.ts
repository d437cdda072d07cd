import { availableParallelism } from 'node:os';
import { Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { runEngine } from './run-engine.ts';

/**
 * The engine process: holds one model's weights in its memory, and nothing else. The agent starts it with an empty
 * environment and one channel, on fd 3, and ends it by closing that.
 */
process.umask(0o077); // its sockets are its own user's from the moment they exist
// A trace could hold request data: end without one.
process.on('uncaughtException', () => process.exit(70));

const { values } = parseArgs({ options: { 'intra-op-threads': { type: 'string' } } });
const intraOpThreads = Number(values['intra-op-threads'] ?? availableParallelism());
if (!Number.isInteger(intraOpThreads) || intraOpThreads < 1 || intraOpThreads > 1024) {
  console.error('--intra-op-threads is a number of threads, 1 to 1024');
  process.exit(2);
}

runEngine({
  agent: new Socket({ fd: 3, readable: true, writable: true }),
  intraOpThreads,
  monotonicNs: () => process.hrtime.bigint(),
  exit: (code) => process.exit(code),
});
