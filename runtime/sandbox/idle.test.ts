import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { startTestSandbox } from './testing.ts';

/** Processor time that a process has used, in ms (proc(5); USER_HZ is 100). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

// Cleaning makes garbage, and V8's own timers follow on that: neither may set off the other for ever.
test.each([
  ['little', ''],
  ['much', 'globalThis.kept = Array.from({ length: 100_000 }, (_, i) => ({ i }));'],
])('a sandbox whose module makes %s does nothing any more a while after a call', async (_much, top) => {
  const sandbox = await startTestSandbox(`${top} export default { fetch: () => new Response('ok') };`, { poolSize: 4 });
  try {
    for (let i = 0; i < 3; i++) await sandbox.call();
    await sleep(6_000);
    const before = cpuMs(sandbox.pid);
    await sleep(3_000);
    expect(cpuMs(sandbox.pid) - before).toBeLessThan(150);
  } finally {
    await sandbox.close();
  }
});
