import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const script = fileURLToPath(new URL('test-summary.cjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'cfn-summary-'));
afterAll(() => rmSync(folder, { recursive: true }));

const passing = { status: 'passed', assertionResults: [{ status: 'passed' }] };
const failing = { status: 'failed', assertionResults: [{ status: 'passed' }, { status: 'failed' }] };
const broken = { status: 'failed', assertionResults: [] };

test.each([
  ['all passed', { numPassedTests: 3, numFailedTests: 0, testResults: [passing] }, '0', '3 passed, 0 failed', 0],
  [
    'a failed test',
    { numPassedTests: 3, numFailedTests: 1, testResults: [passing, failing] },
    '1',
    '3 passed, 1 failed',
    1,
  ],
  [
    'a file that does not load',
    { numPassedTests: 3, numFailedTests: 0, testResults: [passing, broken] },
    '1',
    '3 passed, 1 failed',
    1,
  ],
  [
    'an error outside of any test',
    { numPassedTests: 3, numFailedTests: 0, testResults: [passing] },
    '1',
    '3 passed, 1 failed',
    1,
  ],
  ['no test at all', { numPassedTests: 0, numFailedTests: 0, testResults: [] }, '0', '0 passed, 1 failed', 1],
  ['no report', undefined, '127', '0 passed, 1 failed', 1],
])('%s', (name, report, status, line, code) => {
  const file = join(folder, `${name}.json`);
  if (report !== undefined) writeFileSync(file, JSON.stringify(report));
  const { stdout, status: exit } = spawnSync(process.execPath, [script, file, status], { encoding: 'utf8' });
  expect([stdout, exit]).toEqual([`${line}\n`, code]);
});
