import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ERRORS_DOCUMENT, errorsDocument } from '../scripts/errors-doc.ts';
import { clockUses, invariantMistakes, randomUses, titles } from './tidy-rules.ts';

/** The house's own rules, which no linter knows. */

const root = fileURLToPath(new URL('..', import.meta.url));
const SKIPPED = new Set(['node_modules', '.git', '.cfn', 'dist', 'coverage']);

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    return entry.isDirectory() ? filesUnder(path) : entry.isFile() ? [path] : [];
  });
}

const files = filesUnder('');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const sources = files.filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'));
const isTest = (path: string): boolean =>
  /\.(test|contract|testkit|harness|fixture)\.ts$|(^|\/)test(kit|ing|-[a-z-]+)\.ts$|^test\//.test(path);
const production = sources.filter((path) => !isTest(path));
const found = (paths: readonly string[], rule: (text: string) => number[]): string[] =>
  paths.flatMap((path) => rule(read(path)).map((line) => `${path}:${line}`));

test('there is something to look at', () => {
  expect(production.length).toBeGreaterThan(50);
});

test('no Math.random: nothing here may be guessable', () => {
  expect(found(production, randomUses)).toEqual([]);
});

test('the wall clock is read in main.ts and passed down', () => {
  // Tools are their own mains, and run-worker.ts is the body of every worker's. What runs in an isolate has the platform's Date.
  const elsewhere =
    /(^|\/)main\.ts$|^(scripts|bench|deploy|cli|functions|runtime\/sandbox\/platform)\/|^runtime\/agent\/run-worker\.ts$/;
  expect(
    found(
      production.filter((path) => !elsewhere.test(path)),
      clockUses,
    ),
  ).toEqual([]);
});

test('docs/errors.md is the error table', () => {
  expect(readFileSync(ERRORS_DOCUMENT, 'utf8')).toBe(errorsDocument());
});

test('every invariant of THREAT_MODEL.md is quoted by a test, and tests quote none that is not there', () => {
  const quoting = sources
    .filter((path) => isTest(path) && !path.startsWith('test/tidy'))
    .map((path) => ({ path, text: read(path) }));
  expect(invariantMistakes(read('THREAT_MODEL.md'), quoting)).toEqual([]);
});

test('a document has one title', () => {
  const documents = files.filter((path) => path.endsWith('.md') && !path.startsWith('test/fixtures/'));
  expect(documents.filter((path) => titles(read(path)).length !== 1)).toEqual([]);
});

describe('the rules themselves refuse', () => {
  test('random numbers', () => {
    expect(randomUses('a\nconst x = Math.random();\n')).toEqual([2]);
    expect(randomUses('crypto.getRandomValues(bytes)')).toEqual([]);
  });

  test.each(['Date.now()', 'new Date()', 'new Date( )', 'now: Date.now,'])('a clock read as %s', (text) => {
    expect(clockUses(`\n${text}`)).toEqual([2]);
  });

  test('nothing of a date that is given, or the default clock of a browser SDK', () => {
    expect(clockUses('new Date(value); // Date.now() is not passed here')).toEqual([]);
    expect(clockUses('const { now = () => new Date() } = options;')).toEqual([]);
  });

  test('an invariant without a test, one that nobody wrote, and none at all', () => {
    const model = '> **INV-01** a\n> **INV-02** b; as INV-01 says\n';
    const one = { path: 'a.test.ts', text: "test('INV-01: …')" };
    expect(invariantMistakes(model, [one])).toEqual(['INV-02 has no test']);
    expect(invariantMistakes(model, [one, { path: 'b.test.ts', text: 'INV-02 INV-07' }])).toEqual([
      'b.test.ts quotes INV-07, which is not in the model',
    ]);
    expect(invariantMistakes('# Threat model\n', [])).toEqual(['the threat model numbers no invariant']);
    expect(invariantMistakes(`${model}> **INV-02** again\n`, [one, { path: 'b.test.ts', text: 'INV-02' }])).toEqual([
      'INV-02 is numbered twice',
    ]);
  });

  test('a second title, and not a comment in a code block', () => {
    expect(titles('# One\n\n```sh\n# comment\n```\n\n## Part\n')).toEqual(['One']);
    expect(titles('# One\n# Two\n')).toEqual(['One', 'Two']);
  });
});
