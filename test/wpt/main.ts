import { Command } from 'commander';
import { fileURLToPath } from 'node:url';
import { compare, readExpectations, writeExpectations } from './expectations.ts';
import { runSuite, type FileResult } from './run.ts';
import { readSuite } from './suite.ts';

interface Options {
  readonly json?: true;
  readonly verbose?: true;
  readonly update?: true;
  readonly jobs: string;
  readonly expectations: string;
}

/** Names that are listed; more are counted. */
const NAMES_MAX = 100;

/** `npm run wpt -- DIR [PATTERN…]`: the Web Platform Tests, run as a function would run. */
async function main(folder: string, patterns: readonly string[], options: Options): Promise<void> {
  const suite = readSuite(folder, patterns);
  const say = (line: string): void => (options.json ? undefined : console.log(line));
  const results: FileResult[] = [];
  await runSuite(suite, Number(options.jobs), (result) => {
    results.push(result);
    const { id, passed, failures } = result;
    say(`${failures.length === 0 ? 'ok  ' : 'FAIL'} ${id}: ${passed} passed, ${failures.length} failed`);
    if (options.verbose) for (const { name, message } of failures) say(`       ${name}: ${message}`);
  });
  const leftOut = suite.tests.flatMap(({ id, leftOut: reason }) => (reason === undefined ? [] : [{ id, reason }]));
  for (const { id, reason } of leftOut) say(`left out ${id}: ${reason}`);

  const { unexpectedFailures, unexpectedPasses, shrunk } = compare(results, readExpectations(options.expectations));
  if (options.update) writeExpectations(options.expectations, shrunk);
  sayNames('fails, and is not expected to', unexpectedFailures, say);
  sayNames('passes, and is expected to fail (--update takes it off the list)', unexpectedPasses, say);
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failures.length, 0);
  if (options.json)
    console.log(JSON.stringify({ passed, failed, unexpectedFailures, unexpectedPasses, leftOut, files: results }));
  say(`${passed} passed, ${failed} failed`);
  const fine =
    results.length > 0 && unexpectedFailures.length === 0 && (options.update || unexpectedPasses.length === 0);
  // A sandbox that could not be ended does not keep us.
  process.stdout.write('', () => process.exit(fine ? 0 : 1));
}

function sayNames(what: string, names: readonly string[], say: (line: string) => void): void {
  for (const name of names.slice(0, NAMES_MAX)) say(`${what}: ${name}`);
  if (names.length > NAMES_MAX) say(`${what}: ${names.length - NAMES_MAX} more; --json has all`);
}

await new Command('wpt')
  .description('runs the .any.js files of a checkout of the Web Platform Tests, or of a folder inside one')
  .argument('<dir>')
  .argument('[pattern...]', 'only files whose path contains one of these')
  .option('--json', 'the results as one JSON document')
  .option('--verbose', 'names and messages of what failed')
  .option('--update', 'takes what passes off the list of expected failures')
  .option('--jobs <count>', 'tests at once', '2')
  .option('--expectations <file>', 'expected failures', fileURLToPath(new URL('./expectations.json', import.meta.url)))
  .action(main)
  .parseAsync();
