import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mkdtempSync, rmSync } from 'node:fs';
import { openAuditKey } from './audit-key.ts';
import { openDatabase } from './database.ts';
import { openFileRootKey } from './root-key-file.ts';
import { sqliteSecrets } from './sqlite-owners.ts';

const folder = mkdtempSync(join(tmpdir(), 'cfn-audit-key-'));
const root = openFileRootKey(join(folder, 'root.key'), { mayMake: true, randomBytes });
rmSync(folder, { recursive: true }); // the key is in memory

/** A throw-away key for audit checkpoints. */
export const testAuditKey = await openAuditKey(sqliteSecrets(openDatabase(':memory:')), root, true);
