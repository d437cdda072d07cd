import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { expect, test } from 'vitest';
import { overwriteStackSoon } from './own-stack.ts';

/** How often the bytes are on the stack of this process. */
function onStack(needle: Buffer): number {
  const [start = 0, end = 0] = (
    /^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$/m.exec(readFileSync('/proc/self/maps', 'utf8')) ?? []
  )
    .slice(1)
    .map((hex) => Number(`0x${hex}`));
  const bytes = Buffer.alloc(end - start);
  const memory = openSync('/proc/self/mem', 'r');
  for (let at = 0; at < bytes.length;) at += readSync(memory, bytes, at, bytes.length - at, start + at);
  closeSync(memory);
  let count = 0;
  for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) count++;
  return count;
}

test('what a call left on the stack is gone soon', async () => {
  const mark = 0x5a17c0d;
  // V8 holds a small integer in the upper half of a word. Two of them make one that no pointer looks like.
  const needle = Buffer.alloc(16);
  needle.writeInt32LE(mark, 4);
  needle.writeInt32LE(mark, 12);
  const deep = (levels: number, ...rest: number[]): number =>
    levels === 0 ? rest.length : 1 + (Reflect.apply(deep, undefined, [levels - 1, ...rest]) as number);
  deep(20, ...Array.from({ length: 500 }, () => mark));
  expect(onStack(needle)).toBeGreaterThan(100);
  overwriteStackSoon();
  await expect.poll(() => onStack(needle), { timeout: 5_000 }).toBeLessThan(5); // of the loop that reads, at most
});
