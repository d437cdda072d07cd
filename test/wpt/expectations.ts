import { readFileSync, writeFileSync } from 'node:fs';
import type { FileResult } from './run.ts';

/** Subtests that are known to fail, by test id. `*` stands for all of a file. The list may only shrink. */
export type Expectations = Readonly<Record<string, readonly string[]>>;

export interface Comparison {
  readonly unexpectedFailures: readonly string[];
  readonly unexpectedPasses: readonly string[];
  /** The list without what passes now. */
  readonly shrunk: Expectations;
}

export function readExpectations(path: string): Expectations {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a file of this repository
  return JSON.parse(readFileSync(path, 'utf8')) as Expectations;
}
export function writeExpectations(path: string, expectations: Expectations): void {
  const sorted = Object.entries(expectations).sort(([a], [b]) => (a < b ? -1 : 1));
  writeFileSync(path, `${JSON.stringify(Object.fromEntries(sorted), null, 1)}\n`);
}

/** Compares what ran with what is expected of it; tests that did not run are not looked at. */
export function compare(results: readonly FileResult[], expected: Expectations): Comparison {
  const unexpectedFailures: string[] = [];
  const unexpectedPasses: string[] = [];
  const shrunk: Record<string, readonly string[]> = { ...expected };
  for (const { id, failures } of results) {
    const known = expected[id] ?? [];
    const names = new Set(failures.map(({ name }) => name));
    if (!known.includes('*'))
      for (const name of names) if (!known.includes(name)) unexpectedFailures.push(`${id}: ${name}`);
    const left = known.filter((name) => (name === '*' ? names.size > 0 : names.has(name)));
    for (const name of known) if (!left.includes(name)) unexpectedPasses.push(`${id}: ${name}`);
    if (left.length > 0) shrunk[id] = left;
    else delete shrunk[id];
  }
  return { unexpectedFailures, unexpectedPasses, shrunk };
}
