import { startService } from '../../deploy/service-process.ts';
import { median } from '../measure.ts';
import type { Row } from '../row.ts';

/** The decision where a request goes, in a process of its own, so that its memory is that of the view. */
export async function routing(): Promise<Row[]> {
  const { ready } = await startService<{ microseconds: number[]; residentBytes: number }>({
    name: 'routing',
    entry: new URL('routing-process.ts', import.meta.url),
    args: [],
  });
  const decision = median(ready.microseconds);
  const resident = ready.residentBytes / 1e6;
  return [
    {
      row: 'routing decision: 10,000 workers, 100,000 functions (simulated)',
      unit: 'µs',
      ours: decision,
      spread: [Math.min(...ready.microseconds), Math.max(...ready.microseconds)],
      goal: '≤ 10 µs',
      met: decision <= 10,
    },
    { row: '  and the memory of the process', unit: 'MB', ours: resident, goal: '≤ 500 MB', met: resident <= 500 },
  ];
}
