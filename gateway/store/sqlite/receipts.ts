import { hourOf, type Receipt, type UsageBy, type UsageRow } from '../../../proto/index.ts';
import { usageOf } from '../receipt-usage.ts';
import type { BatchHead, ReceiptStore, SealedBatch, StoredReceipt } from '../receipts.ts';
import { guarded, type Database } from './database.ts';

const COUNTED = `sum(requests) AS requests, sum(failed) AS failed, sum(engine_calls) AS engineCalls,
  sum(engine_us) AS engineMicroseconds`;
const OF_REQUESTS = `${COUNTED}, sum(cpu_us) AS cpuMicroseconds, sum(request_bytes) AS requestBytes,
  sum(response_bytes) AS responseBytes, sum(egress_bytes) AS egressBytes FROM function_usage`;
const USAGE: Readonly<Record<UsageBy, { readonly subject: string; readonly rest: string; readonly isOf: string }>> = {
  function: {
    subject: "CASE tenant WHEN '' THEN '' ELSE tenant || '/' || name END",
    rest: OF_REQUESTS,
    isOf: 'tenant = ?',
  },
  tenant: { subject: 'tenant', rest: OF_REQUESTS, isOf: 'tenant = ?' },
  model: { subject: 'model', rest: `${COUNTED} FROM model_usage`, isOf: '? IN (tenant, owner)' },
};

const BATCH = 'SELECT hour, size, jws FROM receipt_batches';

export function sqliteReceipts(database: Database): ReceiptStore {
  const { run, one, all, transaction } = database;
  const newestBatch = (): BatchHead | undefined => one<BatchHead>(`${BATCH} ORDER BY hour DESC LIMIT 1`);
  return {
    addReceipts: guarded((entries, hour) =>
      transaction(() => {
        const open = Math.max(hour, (newestBatch()?.hour ?? -1) + 1);
        const insert =
          'INSERT OR IGNORE INTO receipts (id, hour, worker, sequence, tenant, jws) VALUES (?, ?, ?, ?, ?, ?)';
        const fresh = entries.filter(
          ({
            jws,
            receipt: {
              id,
              worker,
              sequence,
              function: { tenant },
            },
          }) => {
            return run(insert, id, open, worker, sequence, tenant, jws) === 1;
          },
        );
        for (const { receipt } of fresh) count(database, receipt, open);
        return fresh.length;
      }),
    ),
    receipt: guarded((id) => one<{ jws: string }>('SELECT jws FROM receipts WHERE id = ?', id)?.jws),
    usage: guarded(({ by, tenant, fromHour, toHour, after, limit }) => {
      const { subject, rest, isOf } = USAGE[by];
      const ofTenant = tenant === undefined ? '' : `AND ${isOf}`;
      return all<UsageRow>(
        `SELECT ${subject} AS subject, ${rest} WHERE hour >= ? AND hour < ? ${ofTenant}
         GROUP BY subject HAVING ? IS NULL OR subject > ? ORDER BY subject LIMIT ?`,
        fromHour,
        toHour,
        ...(tenant === undefined ? [] : [tenant]),
        after ?? null,
        after ?? null,
        limit,
      );
    }),
    usedSince: guarded((tenant, since) => {
      const sums = one<{ requests: number; engineMicroseconds: number; bytes: number }>(
        `SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(engine_us), 0) AS engineMicroseconds,
         coalesce(sum(request_bytes + response_bytes), 0) AS bytes FROM function_usage WHERE tenant = ? AND hour >= ?`,
        tenant,
        hourOf(new Date(since)),
      );
      const { requests = 0, engineMicroseconds = 0, bytes = 0 } = sums ?? {};
      return { requests, engineMs: engineMicroseconds / 1000, bytes };
    }),
    receiptsOfWorker: guarded((worker, fromSequence, limit) =>
      all<{ jws: string }>(
        'SELECT jws FROM receipts WHERE worker = ? AND sequence >= ? ORDER BY sequence LIMIT ?',
        worker,
        fromSequence,
        limit,
      ).map(({ jws }) => jws),
    ),

    unsealedHours: guarded((beforeHour) =>
      all<{ hour: number }>(
        'SELECT DISTINCT hour FROM receipts WHERE hour > ? AND hour < ? ORDER BY hour',
        newestBatch()?.hour ?? -1,
        beforeHour,
      ).map(({ hour }) => hour),
    ),
    receiptsOfHour: guarded((hour, afterId, limit) =>
      all<StoredReceipt>(
        'SELECT id, tenant, jws FROM receipts WHERE hour = ? AND id > ? ORDER BY id LIMIT ?',
        hour,
        afterId,
        limit,
      ),
    ),
    hourOfReceipt: guarded((id) => one<{ hour: number }>('SELECT hour FROM receipts WHERE id = ?', id)?.hour),
    addBatch: guarded(({ hour, size, jws, blocks }, previousHour) =>
      transaction(() => {
        if (newestBatch()?.hour !== previousHour || hour <= (previousHour ?? -1)) return false;
        const held = one<{ size: number }>('SELECT count(*) AS size FROM receipts WHERE hour = ?', hour);
        if (held?.size !== size) return false;
        run('INSERT INTO receipt_batches (hour, size, jws, blocks) VALUES (?, ?, ?, ?)', hour, size, jws, blocks);
        return true;
      }),
    ),
    batch: guarded((hour) =>
      one<SealedBatch>('SELECT hour, size, jws, blocks FROM receipt_batches WHERE hour = ?', hour),
    ),
    newestBatch: guarded(newestBatch),
    batches: guarded((afterHour, limit) =>
      all<BatchHead>(`${BATCH} WHERE hour > ? ORDER BY hour LIMIT ?`, afterHour, limit),
    ),

    addEvidence: guarded(
      (digest, json) => void run('INSERT OR IGNORE INTO evidence (digest, json) VALUES (?, ?)', digest, json),
    ),
    evidence: guarded((digest) => one<{ json: string }>('SELECT json FROM evidence WHERE digest = ?', digest)?.json),
  };
}

function count({ run }: Database, receipt: Receipt, hour: number): void {
  const { tenant, name } = receipt.function;
  const used = usageOf(receipt);
  run(
    `INSERT INTO function_usage VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (hour, tenant, name) DO UPDATE SET requests = requests + 1, failed = failed + excluded.failed,
       engine_calls = engine_calls + excluded.engine_calls, engine_us = engine_us + excluded.engine_us,
       cpu_us = cpu_us + excluded.cpu_us, request_bytes = request_bytes + excluded.request_bytes,
       response_bytes = response_bytes + excluded.response_bytes, egress_bytes = egress_bytes + excluded.egress_bytes`,
    hour,
    tenant,
    name,
    used.failed,
    used.engineCalls,
    used.engineMicroseconds,
    used.cpuMicroseconds,
    used.requestBytes,
    used.responseBytes,
    used.egressBytes,
  );
  for (const { model, engineCalls, engineMicroseconds } of used.models)
    run(
      `INSERT INTO model_usage VALUES (?, ?, ?, ?, 1, ?, ?, ?)
       ON CONFLICT (hour, model, tenant) DO UPDATE SET requests = requests + 1, failed = failed + excluded.failed,
         engine_calls = engine_calls + excluded.engine_calls, engine_us = engine_us + excluded.engine_us`,
      hour,
      model,
      model.slice(0, model.indexOf('/')),
      tenant,
      used.failed,
      engineCalls,
      engineMicroseconds,
    );
}
