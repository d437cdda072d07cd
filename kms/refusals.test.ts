import { expect, test } from 'vitest';
import type { AuditEntry } from '../proto/index.ts';
import { REFUSALS_AT_ONCE } from './limits.ts';
import { openRefusals, type Refusals } from './refusals.ts';

/** Refusals that from now on are counted only. @param writing is called while an entry is written */
async function counting(writing: (owner: string) => Promise<void>): Promise<{
  readonly refusals: Refusals;
  readonly refuse: (owner: string) => Promise<void>;
  readonly written: AuditEntry[];
}> {
  const written: AuditEntry[] = [];
  let full = false;
  const addAudit = async (owner: string, entry: AuditEntry): Promise<void> => {
    if (!full) return;
    await writing(owner);
    written.push(entry);
  };
  const now = new Date();
  const refusals = openRefusals({ addAudit } as unknown as Parameters<typeof openRefusals>[0], () => now, 100);
  const refuse = (owner: string): Promise<void> => refusals.note(owner, 'CFN_GRANT_MISSING', {});
  for (const owner of ['', 'acme']) for (let i = 0; i < REFUSALS_AT_ONCE; i++) await refuse(owner);
  full = true;
  return { refusals, refuse, written };
}

test('a flush ends under a flood: it notes what was counted before it began', async () => {
  // Bounded, so that a flush that follows the flood ends here with too many entries, and not never.
  let refused = 0;
  const { refusals, refuse, written } = await counting(async (owner) => {
    if (refused++ < 50) await refuse(owner);
  });
  for (const owner of ['', 'acme', 'acme']) await refuse(owner);
  await refusals.flush();
  expect(written.map(({ count }) => count)).toEqual([1, 2]);
  await refusals.flush();
  expect(written.map(({ count }) => count)).toEqual([1, 2, 1, 1]);
});

test('a flush waits for the one before it, and goes on when that failed', async () => {
  const slow = Promise.withResolvers<void>();
  let entries = 0;
  const { refusals, refuse, written } = await counting(() => (++entries === 1 ? slow.promise : Promise.resolve()));
  await refuse('acme');
  const first = refusals.flush();
  await new Promise(setImmediate);
  await refuse('');
  const last = refusals.flush();
  await new Promise(setImmediate);
  expect([entries, written.length]).toEqual([1, 0]);
  slow.reject(new Error('the disk is full'));
  await expect(first).rejects.toThrow('the disk is full');
  await last;
  expect(written.map(({ count }) => count)).toEqual([1]);
});
