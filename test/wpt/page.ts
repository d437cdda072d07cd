import { readFileSync } from 'node:fs';
import { PARTS } from '../../runtime/sandbox/platform/parts.ts';
import { readBelow, type WptTest } from './suite.ts';

/** Where tests believe to be. */
const ORIGIN = 'https://web-platform.test';
/** Paths that the server of the Web Platform Tests maps to others. */
const ALIASES: Readonly<Record<string, string>> = {
  'resources/WebIDLParser.js': 'resources/webidl2/lib/webidl2.js',
};
const prelude = readFileSync(new URL('./prelude.js', import.meta.url), 'utf8');

/** What a bundle names is there from the start, as plain properties. */
const names = Object.values(PARTS).flatMap(({ globals }) => globals);

/** A function that runs the script it is sent, as global code. It answers once. */
export const RUNNER_BUNDLE = `// ${names.join(' ')}
const { eval: run, JSON: { parse, stringify }, Response, Object: { defineProperty }, Promise: { withResolvers } } = globalThis;
const P = Promise;
export default {
  async fetch(request) {
    const { script, page } = parse(await request.text());
    const { promise, resolve } = withResolvers.call(P);
    defineProperty(globalThis, 'PAGE', { value: { ...page, answer: resolve }, configurable: true });
    try {
      run(script);
    } catch (error) {
      resolve(stringify({ harness: { status: 1, message: 'the script threw ' + error }, tests: [] }));
    }
    return new Response(await promise);
  },
};`;

/** What the function above is sent to run a test. Files by their path, their bytes as characters; null where there is none. */
export function pageOf(root: string, test: WptTest, files: Readonly<Record<string, string | null>>): string {
  const text = (path: string): string => {
    const bytes = readBelow(root, ALIASES[path] ?? path);
    if (bytes === null) throw new Error(`${test.path} needs ${path}, which is not there`);
    return bytes.toString('utf8');
  };
  const title = test.title === undefined ? '' : `var META_TITLE = ${JSON.stringify(test.title)};`;
  const parts = [prelude, title, text('resources/testharness.js'), 'CFN_WPT_WATCH();'];
  const script = [...parts, ...test.scripts.map(text), text(test.path)].join('\n;\n');
  const href = `${ORIGIN}/${test.path.replace(/\.js$/, '.html')}${test.variant}`;
  return JSON.stringify({ script, page: { href, files, timeoutMs: test.timeoutMs } });
}
