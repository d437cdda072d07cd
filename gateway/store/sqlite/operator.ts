import { LIST_MAX } from '../../limits.ts';
import type { OperatorStore } from '../operator.ts';
import { guarded, type Database } from './database.ts';

interface ConsentRow {
  readonly subject: string;
  readonly admitted: number;
}

export function sqliteOperator({ run, all }: Database): OperatorStore {
  return {
    setConsent: guarded((subject, admitted) => {
      const sql = `INSERT INTO consents VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET admitted = excluded.admitted`;
      run(sql, subject, admitted ? 1 : 0);
    }),
    consents: guarded((subjects) => {
      const rows =
        subjects === undefined
          ? all<ConsentRow>('SELECT subject, admitted FROM consents ORDER BY subject LIMIT ?', LIST_MAX)
          : all<ConsentRow>(
              'SELECT subject, admitted FROM consents WHERE subject IN (SELECT value FROM json_each(?))',
              JSON.stringify(subjects),
            );
      return new Map(rows.map(({ subject, admitted }) => [subject, admitted === 1]));
    }),

    addWorkerAddress: guarded(
      (address) => void run('INSERT OR IGNORE INTO worker_addresses (address) VALUES (?)', address),
    ),
    removeWorkerAddress: guarded((address) => void run('DELETE FROM worker_addresses WHERE address = ?', address)),
    workerAddresses: guarded(() =>
      all<{ address: string }>('SELECT address FROM worker_addresses ORDER BY address LIMIT ?', LIST_MAX).map(
        (row) => row.address,
      ),
    ),
  };
}
