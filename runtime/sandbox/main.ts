import { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { performance } from 'node:perf_hooks';
import { serveSandbox } from './serve.ts';

/**
 * The sandbox process: started by the agent with an empty environment and a socket as fd 3, over which its program comes (`loader.cjs`), and then
 * it serves one function version. It ends when the socket closes.
 */
serveSandbox({
  socket: new Socket({ fd: 3, readable: true, writable: true }),
  useSnapshot: !process.argv.includes('--no-isolate-snapshot'),
  now: () => performance.now(),
  threads: availableParallelism() + 1, // isolated-vm's own rule
  residentBytes: () => process.memoryUsage.rss(),
  // Not process.exit(): it waits for isolates, and a lost one never ends.
  exit: () => void process.kill(process.pid, 'SIGKILL'),
});
