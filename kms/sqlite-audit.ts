import { createHash } from 'node:crypto';
import { auditLink, CfnError, toHex, type AuditEntry, type AuditLine } from '../proto/index.ts';
import type { AuditKey } from './audit-key.ts';
import type { Database } from './database.ts';
import { CHECKPOINTS_EVERY } from './limits.ts';
import type { AuditStore } from './store.ts';

/** Adds entries to the chains, inside of the transaction of what they tell. */
export interface AuditWriter {
  /** @param owner whose chain; `''` is the chain of the KMS itself */
  readonly note: (owner: string, entry: AuditEntry) => void;
}

interface Row {
  readonly seq: number;
  readonly entry: string;
  readonly hash: Uint8Array;
}

/** One hash chain for each owner, and one of the KMS itself: no owner's log depends on another's. */
export function sqliteAudit(database: Database, key: AuditKey): AuditStore & AuditWriter {
  const { run, all, one } = database;
  const last = (owner: string): Row | undefined =>
    one<Row>('SELECT seq, entry, hash FROM audit WHERE owner = :owner ORDER BY seq DESC LIMIT 1', { owner });
  const newest = (owner: string): { seq: number; statement: string } | undefined =>
    one('SELECT seq, statement FROM checkpoints WHERE owner = :owner ORDER BY seq DESC LIMIT 1', { owner });

  /** Owners whose chains have entries after their checkpoints, until the commit. */
  const grown = new Set<string>();
  const note: AuditWriter['note'] = (owner, entry) => {
    const before = last(owner);
    const seq = (before?.seq ?? 0) + 1;
    const text = JSON.stringify(entry);
    const hash = createHash('sha256')
      .update(auditLink(owner, seq, text, before?.hash))
      .digest();
    run('INSERT INTO audit VALUES (:owner, :seq, :text, :hash)', { owner, seq, text, hash });
    grown.add(owner);
  };

  /** Once a commit: the newest checkpoint says where the log ends, so that a cut is seen. Of older ones some stay. */
  function checkpoint(owner: string): void {
    const [end, before] = [last(owner), newest(owner)];
    if (end === undefined || end.seq === before?.seq) return; // what was noted is undone
    const { seq, hash, entry } = end;
    const { at } = JSON.parse(entry) as AuditEntry;
    const statement = key.sign({ namespace: owner, seq, hash: toHex(hash), at });
    run('INSERT INTO checkpoints VALUES (:owner, :seq, :statement)', { owner, seq, statement });
    const span = (count: number): number => Math.floor((count - 1) / CHECKPOINTS_EVERY);
    if (before !== undefined && span(seq) === span(before.seq))
      run('DELETE FROM checkpoints WHERE owner = :owner AND seq = :seq', { owner, seq: before.seq });
  }
  database.beforeCommit(() => {
    for (const owner of grown) checkpoint(owner);
    grown.clear();
  });

  return {
    note,
    addAudit: (owner, entry) => database.transact(() => note(owner, entry)),
    auditPage: (owner, after, countMax) =>
      database.read(() => {
        const span = { owner, after, to: after + countMax };
        const rows = all<Row>(
          'SELECT seq, entry, hash FROM audit WHERE owner = :owner AND seq > :after AND seq <= :to ORDER BY seq',
          span,
        );
        const checkpoints = all<{ statement: string }>(
          'SELECT statement FROM checkpoints WHERE owner = :owner AND seq > :after AND seq <= :to ORDER BY seq',
          span,
        );
        const lines: AuditLine[] = rows.map(({ seq, entry, hash }) => ({
          namespace: owner,
          seq,
          hash: toHex(hash),
          entry: JSON.parse(entry) as AuditEntry,
        }));
        const head = newest(owner)?.statement;
        return {
          lines,
          checkpoints: checkpoints.map(({ statement }) => statement),
          ...(head !== undefined && { head }),
        };
      }),
    checkHeads: () =>
      database.read(() => {
        const owners = all<{ owner: string }>(
          'SELECT DISTINCT owner FROM audit UNION SELECT DISTINCT owner FROM checkpoints',
          {},
        );
        for (const { owner } of owners) {
          const [end, checkpoint] = [last(owner), newest(owner)];
          const claims = checkpoint && key.open(checkpoint.statement);
          if (claims?.namespace !== owner || claims.seq !== end?.seq || claims.hash !== toHex(end.hash))
            throw new CfnError(
              'CFN_AUDIT_ALTERED',
              `the audit log ${owner === '' ? 'of the KMS' : `of ${owner}`} does not end at its checkpoint`,
            );
        }
      }),
    heads: () =>
      database.read(() =>
        all<{ owner: string }>('SELECT DISTINCT owner FROM checkpoints', {}).flatMap(
          ({ owner }) => newest(owner)?.statement ?? [],
        ),
      ),
  };
}
