import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { processTree, searchMemory } from './memory-search.ts';

test('a process is searched whole, and a pattern without bytes is no pattern', () => {
  const marker = randomBytes(24);
  expect(processTree(process.pid)).toContain(process.pid);
  expect(searchMemory([process.pid], { marker }).hits.length).toBeGreaterThan(0);
  expect(() => searchMemory([process.pid], { marker, nothing: new Uint8Array(0) })).toThrow(
    /nothing is empty or short/,
  );
});
