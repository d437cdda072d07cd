import type { Row } from '../row.ts';
import { openRelay } from './relay-system.ts';

const WORKERS = 1_000;

/** Connection, evidence, appraisal, result and lease of 1,000 workers, whose endorsements came with their evidence. */
export async function admission(): Promise<Row[]> {
  await using system = await openRelay(WORKERS);
  const { wall, processor } = system.admission;
  return [
    {
      row: 'admission of 1,000 workers: processor time of the gateway',
      unit: 's',
      ours: processor,
      goal: '≤ 10 s',
      met: processor <= 10,
    },
    {
      row: '  and until all were admitted, making their quotes included',
      unit: 's',
      ours: wall,
      goal: 'none here',
      met: true,
    },
  ];
}
