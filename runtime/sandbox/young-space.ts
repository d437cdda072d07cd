import { getHeapSpaceStatistics } from 'node:v8';

/**
 * Writes over the free part of this isolate's young generation. As it grows it is given pages that other isolates of the process have
 * used (`PagePool::Get`), with what is on them.
 */
export function fillYoungSpace(): void {
  const bytes = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0;
  // Small ones, so that little is left over at the end of a page; kept in view, so that none is optimised away.
  for (let filled = 0; filled < bytes * 2; filled += ITEM_BYTES)
    sink = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  if (sink.length === 0) throw new Error('nothing was filled');
}

let sink: readonly number[] = [];
const ITEM_BYTES = 176; // header, length, elements: 4 + 2 + 16 words
