import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { root } from './local-system.ts';

const TRANSCRIPT = join(root, 'test/transcripts/marketplace.txt');

/** Rewritten by `UPDATE=1 npx vitest run test/marketplace.test.ts`; a change of it is to be read. */
test('npm run marketplace: two owners, two tenants, one operator; grant, use, meter, revoke', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['scripts/marketplace.ts'], { cwd: root });
  // How often a worker states its count, and how often somebody asked while a revocation was on its way, is a matter of moments.
  const said = normalise(stdout)
    .replaceAll(/used \d+ times/g, 'used <n> times')
    .replaceAll(/whole: \d+ entries/g, 'whole: <n> entries');
  if (process.env['UPDATE'] === '1') writeFileSync(TRANSCRIPT, said);
  expect(said).toBe(readFileSync(TRANSCRIPT, 'utf8'));
}, 300_000);

/** What differs from run to run, by what it is; the same thing gets the same number wherever it comes again. */
function normalise(text: string): string {
  const kinds: [string, RegExp][] = [
    ['folder', /\/[^ ]*(?=\/(node_modules|attestation)\/)/g],
    ['time', /\d{4}-\d\d-\d\dT[\d:.]+Z/g],
    ['service', /http:\/\/127\.0\.0\.1:\d+/g],
    ['checkpoint', /[\w-]+\.[\w-]{100,}\.[\w-]{86}/g],
    ['token', /(?<=\b(acme|zoo)\.)[\w-]{43}/g],
    ['digest', /\b[0-9a-f]{64}\b/g],
    ['id', /\b[0-9a-f]{32}\b/g],
    ['worker', /\b[0-9a-f]{16}(?=…)/g],
    ['key', /(?<![\w-])[\w-]{43}(?![\w-])/g],
  ];
  return kinds.reduce((before, [kind, pattern]) => {
    const seen = new Map<string, number>();
    return before.replace(pattern, (found) => {
      if (kind === 'time') return '<time>';
      const number = seen.get(found) ?? seen.size + 1;
      seen.set(found, number);
      return `<${kind} ${number}>`;
    });
  }, text);
}
