/** One line of the report. */
export interface Row {
  readonly row: string;
  readonly unit: string;
  /** Ours, and what a user would take instead; medians over rounds. */
  readonly ours: number;
  readonly reference?: number;
  /** Ours over reference, pair by pair, median. */
  readonly ratio?: number;
  /** Ours minus reference, pair by pair, median. */
  readonly added?: number;
  readonly spread?: readonly [min: number, max: number];
  /** What was asked for, in words, and whether this run met it. */
  readonly goal: string;
  readonly met: boolean;
}

export function printTable(rows: readonly Row[]): void {
  const number = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(value < 10 ? 3 : 1));
  console.table(
    rows.map(({ row, unit, ours, reference, ratio, added, spread, goal, met }) => ({
      row,
      unit,
      ours: number(ours),
      reference: number(reference),
      ratio: number(ratio),
      added: number(added),
      spread: spread === undefined ? '' : `${number(spread[0])}–${number(spread[1])}`,
      goal,
      met: met ? 'yes' : 'NO',
    })),
  );
}
