import { getHeapSpaceStatistics } from 'node:v8';

/**
 * Writes over the free part of this isolate's young generation. As it grows it is given pages that other isolates of the process have
 * used (`PagePool::Get`), with what is on them.
 */
export function fillYoungSpace(): void {
  const bytes = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0;
  // Of 4 KB, so that at most so much is left over at the end of a page; kept in view, so that none is optimised away.
  for (let filled = 0; filled < bytes * 2; filled += ITEM_BYTES) sink = [...ZEROS];
  if (sink.length === 0) throw new Error('nothing was filled');
}

let sink: readonly number[] = [];
/** Not a literal: the elements of one are shared by its copies until they are written. */
const ZEROS = Array.from({ length: 506 }, () => 0);
const ITEM_BYTES = 8 * (ZEROS.length + 6); // header, length, elements
