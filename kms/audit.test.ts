import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { verifyAudit, type AuditPage } from '../proto/index.ts';
import { REFUSALS_AT_ONCE } from './limits.ts';
import {
  addOwner,
  auditOf,
  digest,
  grantOf,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type TestKms,
} from './test-kms.ts';

let folder: string;
let path: string;
let kms: TestKms;
let token: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  path = join(folder, 'keyring.sqlite');
  kms = await startKms(path);
  ({ token } = await addOwner(kms));
  for (const leaseMs of [5000, 6000, 7000, 8000])
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { leaseMs }), token);
});
afterEach(() => {
  kms.deps.store.close();
  rmSync(folder, { recursive: true });
});

/** As `cfn kms audit export` writes it. */
async function exported(from = kms, as = token): Promise<string[]> {
  const page = (await from.send('GET', '/v1/audit', undefined, as)).body as unknown as AuditPage;
  return [...page.lines, ...page.checkpoints.map((checkpoint) => ({ checkpoint }))].map((line) => JSON.stringify(line));
}
const verify = async (lines: readonly string[], since?: string): ReturnType<typeof verifyAudit> =>
  verifyAudit(lines, kms.deps.auditKey, since);
const altered = { code: 'CFN_AUDIT_ALTERED' };
const edit = (sql: string): void => {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
};

describe('INV-21 an audit log', () => {
  test('verifies as it is exported, and says what was decided', async () => {
    const lines = await exported();
    expect(await verify(lines)).toMatchObject({ namespace: 'acme', entries: 6 });
    expect((await auditOf(kms)).toReversed().map(({ decision }) => decision)).toEqual([
      'owner-added',
      'key-stored',
      'granted',
      'granted',
      'granted',
      'granted',
    ]);
  });

  test('is refused with any line changed, left out, put twice or elsewhere', async () => {
    const lines = await exported();
    const entries = lines.filter((line) => line.includes('"seq"'));
    for (const [at, line] of entries.entries()) {
      await expect(verify(lines.toSpliced(at, 1)), `without line ${at}`).rejects.toMatchObject(altered);
      await expect(verify(lines.toSpliced(at, 0, line)), `line ${at} twice`).rejects.toMatchObject(altered);
      const changed = line.replace(/("decision":"[a-z])[a-z]/, '$1Z');
      expect(changed).not.toBe(line);
      await expect(verify(lines.with(at, changed))).rejects.toMatchObject(altered);
      const dated = line.replace(/"at":"20/, '"at":"19');
      await expect(verify(lines.with(at, dated)), `line ${at} of another time`).rejects.toMatchObject(altered);
    }
    for (let at = 1; at < entries.length; at++) {
      const [a = '', b = ''] = [lines[at - 1], lines[at]];
      await expect(verify(lines.with(at - 1, b).with(at, a)), `lines ${at - 1} and ${at}`).rejects.toMatchObject(
        altered,
      );
    }
  });

  test('is refused with every hash made anew, as its checkpoint is signed', async () => {
    const other = await startKms(); // the same calls elsewhere: a whole log, of another key
    const mine = (await addOwner(other)).token;
    await expect(verify(await exported(other, mine))).rejects.toMatchObject(altered);
    await expect(verifyAudit(await exported(other, mine), other.deps.auditKey)).resolves.toMatchObject({ entries: 2 });
  });

  test('is refused when it was cut at its end, whatever checkpoint is left', async () => {
    const lines = await exported();
    const entries = lines.filter((line) => line.includes('"seq"'));
    const checkpoints = lines.filter((line) => line.includes('"checkpoint"'));
    for (let count = 0; count < entries.length; count++) {
      await expect(verify([...entries.slice(0, count), ...checkpoints])).rejects.toMatchObject(altered);
      await expect(verify(entries.slice(0, count))).rejects.toMatchObject(altered);
    }
    await expect(verify(entries)).rejects.toMatchObject(altered);
    await expect(verify([])).rejects.toMatchObject(altered);
  });

  test('that was cut together with its checkpoints is refused by whoever kept a newer one', async () => {
    const before = await exported();
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { leaseMs: 9000 }), token);
    const { checkpoint } = await verify(await exported());
    expect(await verify(before)).toMatchObject({ entries: 6 }); // the log as it was: nothing in it says that there was more
    await expect(verify(before, checkpoint)).rejects.toMatchObject(altered);
    await expect(verify(await exported(), checkpoint)).resolves.toMatchObject({ entries: 7 });
  });

  test("is refused with another owner's checkpoint, and with lines of another log", async () => {
    const { token: other } = await addOwner(kms, 'mallory', 'mallory/m@1');
    const [mine, theirs] = [await exported(), await exported(kms, other)];
    const entries = mine.filter((line) => line.includes('"seq"'));
    const { checkpoint } = await verify(theirs);
    await expect(verify([...entries, JSON.stringify({ checkpoint })])).rejects.toMatchObject(altered);
    await expect(verify(mine, checkpoint)).rejects.toMatchObject(altered);
    await expect(verify([...mine, ...theirs])).rejects.toMatchObject(altered);
  });

  test.each(['{"namespace":"acme","namespace":"acme"}', ' {"checkpoint":""}', '{}', 'null', '', '[1'])(
    'is refused with the line %s',
    async (line) => {
      await expect(verify([...(await exported()), line])).rejects.toMatchObject(altered);
    },
  );

  test.each([
    ['its last entry is gone', "DELETE FROM audit WHERE owner = 'acme' AND seq = 6"],
    ['its last hash was changed', "UPDATE audit SET hash = zeroblob(32) WHERE owner = 'acme' AND seq = 6"],
    ['its checkpoint is gone', "DELETE FROM checkpoints WHERE owner = 'acme' AND seq = 6"],
    ['all of it is gone', "DELETE FROM audit WHERE owner = 'acme'"],
    ["its checkpoint is another log's", "UPDATE checkpoints SET owner = 'acme', seq = 7 WHERE owner = ''"],
  ])('keeps the KMS from starting when %s', async (_, sql) => {
    edit(sql);
    await expect(startKms(path)).rejects.toMatchObject(altered);
  });

  test('shows an entry edited in the database, also in the middle', async () => {
    edit("UPDATE audit SET entry = replace(entry, 'granted', 'revoked') WHERE owner = 'acme' AND seq = 4");
    await expect(exported().then((lines) => verify(lines))).rejects.toMatchObject(altered);
  });

  test("holds refusals, with why and whose, in the log of the model's owner", async () => {
    await kms.deps.store.removeGrant(String((await kms.deps.store.grants(digest, 'acme'))[0]?.id), digest, 'acme', 0);
    const [worker, use] = [await startWorker(kms), await signFunction()];
    await kms.send('POST', '/v1/release', await releaseRequest(kms, worker, use));
    expect((await auditOf(kms))[0]).toMatchObject({
      decision: 'refused',
      code: 'CFN_GRANT_MISSING',
      digest,
      worker: worker.id,
      version: use.version,
    });
    await verify(await exported());
  });

  test('is not filled by strangers: more refusals than some are counted', async () => {
    const request = {
      ...(await releaseRequest(kms, await startWorker(kms), await signFunction())),
      model: 'e'.repeat(64),
    };
    const more = 25;
    for (let i = 0; i < REFUSALS_AT_ONCE + more; i++) await kms.send('POST', '/v1/release', request);
    await kms.deps.refusals.flush();
    const page = await kms.deps.store.auditPage('', 0, 10_000);
    const refused = page.lines.filter(({ entry }) => entry.decision === 'refused');
    const counted = refused.reduce((sum, { entry }) => sum + (entry.count ?? 1), 0);
    expect(counted).toBe(REFUSALS_AT_ONCE + more);
    expect(refused.length).toBeLessThan(REFUSALS_AT_ONCE + more);
    await verifyAudit(
      [...page.lines, ...page.checkpoints.map((checkpoint) => ({ checkpoint }))].map((line) => JSON.stringify(line)),
      kms.deps.auditKey,
    );
  });
});
