import { LIST_MAX } from '../../limits.ts';
import type { LedgerEntry, ReceiptStore, UsageRow, Used } from '../receipts.ts';
import { guarded, type Database } from './database.ts';

const USAGE = `SELECT tenant, name, count(*) AS requests, sum(outcome <> 'ok') AS failed, sum(cpu_ms) AS cpuMs,
  sum(engine_ms) AS engineMs, sum(request_bytes) AS requestBytes, sum(response_bytes) AS responseBytes FROM receipts`;

export function sqliteReceipts({ run, one, all, transaction }: Database): ReceiptStore {
  return {
    addReceipts: guarded((entries) =>
      transaction(() => entries.reduce((sum, entry) => sum + addReceipt(run, entry), 0)),
    ),
    receipt: guarded((id) => one<{ jws: string }>('SELECT jws FROM receipts WHERE id = ?', id)?.jws),
    usage: guarded((tenant) => {
      const tail = 'GROUP BY tenant, name ORDER BY tenant, name LIMIT ?';
      return tenant === undefined
        ? all<UsageRow>(`${USAGE} ${tail}`, LIST_MAX)
        : all<UsageRow>(`${USAGE} WHERE tenant = ? ${tail}`, tenant, LIST_MAX);
    }),
    usedSince: guarded(
      (tenant, since) =>
        one<Used>(
          `SELECT count(*) AS requests, coalesce(sum(engine_ms), 0) AS engineMs,
           coalesce(sum(request_bytes + response_bytes), 0) AS bytes FROM receipts WHERE tenant = ? AND issued_at >= ?`,
          tenant,
          since,
        ) ?? { requests: 0, engineMs: 0, bytes: 0 },
    ),

    addEvidence: guarded(
      (digest, json) => void run('INSERT OR IGNORE INTO evidence (digest, json) VALUES (?, ?)', digest, json),
    ),
    evidence: guarded((digest) => one<{ json: string }>('SELECT json FROM evidence WHERE digest = ?', digest)?.json),
  };
}

function addReceipt(run: Database['run'], { jws, receipt }: LedgerEntry): number {
  const { id, worker, issuedAt, outcome, usage, request, response } = receipt;
  return run(
    `INSERT OR IGNORE INTO receipts
     (id, tenant, name, version, worker, issued_at, outcome, cpu_ms, engine_ms, request_bytes, response_bytes, jws)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    id,
    receipt.function.tenant,
    receipt.function.name,
    receipt.function.version,
    worker,
    issuedAt,
    outcome,
    usage.cpuMs,
    usage.engineMs,
    request.bytes,
    response.bytes,
    jws,
  );
}
