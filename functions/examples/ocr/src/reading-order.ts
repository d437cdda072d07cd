import type { Point, Quad } from './geometry.ts';

/** What one box says. */
export interface Fragment {
  readonly text: string;
  readonly score: number;
  readonly box: Quad;
}

/**
 * Fragments as the lines of a page, from top to bottom. What stands on one row, by its middle, is one line, read from left to
 * right and joined by a space: a detector splits a row wherever it sees a gap.
 *
 * @returns one fragment a line; its score is the mean of the joined ones
 */
export function joinLines(fragments: readonly Fragment[]): Fragment[] {
  const placed = fragments.map((fragment) => ({ fragment, ...placeOf(fragment.box) }));
  const rowHeight = placed.reduce((sum, { height }) => sum + height, 0) / placed.length;
  placed.sort((a, b) => a.middle - b.middle);
  const rows: (typeof placed)[] = [];
  for (const entry of placed) {
    const row = rows.at(-1);
    if (row?.[0] && entry.middle - row[0].middle < rowHeight / 2) row.push(entry);
    else rows.push([entry]);
  }
  for (const row of rows) row.sort((a, b) => a.left - b.left);
  // By where a row begins, not by its middle: on a tilted page a long row's middle is far from its beginning.
  rows.sort((a, b) => (a[0]?.beginning ?? 0) - (b[0]?.beginning ?? 0));
  return rows.map((row) => joined(row.map(({ fragment }) => fragment)));
}

function joined(fragments: readonly Fragment[]): Fragment {
  const [first, last] = [fragments[0], fragments.at(-1)];
  if (!first || !last) throw new RangeError('a row has at least one fragment');
  return {
    text: fragments.map(({ text }) => text).join(' '),
    score: fragments.reduce((sum, { score }) => sum + score, 0) / fragments.length,
    box: [first.box[0], last.box[1], last.box[2], first.box[3]],
  };
}

/** `middle` and `beginning` are heights on the page: of the box's centre, and of the middle of its left side. */
function placeOf([topLeft, , bottomRight, bottomLeft]: Quad) {
  return {
    left: topLeft[0],
    middle: between(topLeft, bottomRight),
    beginning: between(topLeft, bottomLeft),
    height: Math.hypot(bottomLeft[0] - topLeft[0], bottomLeft[1] - topLeft[1]),
  };
}

function between(a: Point, b: Point): number {
  return (a[1] + b[1]) / 2;
}
