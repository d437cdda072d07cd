import { describe } from 'vitest';
import { bookContract } from './book.contract.ts';
import { SLOTS_MS } from './book.ts';
import { memoryBook } from './memory-book.ts';

describe('memoryBook', () => {
  let nowMs = 0;
  const book = memoryBook(() => nowMs);
  bookContract(
    () => book,
    SLOTS_MS,
    async (ms) => void (nowMs += ms),
  );
});
