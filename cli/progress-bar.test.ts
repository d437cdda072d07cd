import { expect, test } from 'vitest';
import { progressBar } from './progress-bar.ts';

test.each([
  [0, 2_900_000_000, 0, '[------------------------] 0 %  0.0 of 2.9 GB'],
  [1_200_000_000, 2_900_000_000, 6_000, '[#########---------------] 41 %  1.2 of 2.9 GB, 200.0 MB/s, 9 s left'],
  [2_900_000_000, 2_900_000_000, 16_000, '[########################] 100 %  2.9 of 2.9 GB, 181.3 MB/s, 0 s left'],
  [500, 1_000, 100, '[############------------] 50 %  1 of 1 kB'],
  [0, 0, 5_000, '[########################] 100 %  0 of 0 B'],
  [0, 5_000_000, 5_000, '[------------------------] 0 %  0.0 of 5.0 MB'],
])('%d of %d bytes after %d ms', (done, total, ms, text) => {
  expect(progressBar(done, total, ms)).toBe(text);
  expect(text.length).toBeLessThan(79);
});
