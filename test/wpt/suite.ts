import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, posix, relative, resolve, sep } from 'node:path';

/** One run of one `.any.js` file: a file with variants is several. */
export interface WptTest {
  /** From the root of the checkout, with the variant: `url/url-origin.any.js`, `a/b.any.js?1-100`. */
  readonly id: string;
  readonly path: string;
  readonly variant: string;
  readonly title: string | undefined;
  /** Files to run before it, from the root. */
  readonly scripts: readonly string[];
  readonly timeoutMs: number;
  /** Why it is not for a function; such a test is not run. */
  readonly leftOut?: string;
}
export interface WptSuite {
  readonly root: string;
  readonly tests: readonly WptTest[];
}

/** The limits of the Web Platform Tests themselves, in ms. */
const [TIMEOUT_MS, LONG_TIMEOUT_MS] = [10_000, 60_000];
/** Globals that a function may pass for: any worker, and a shell. */
const OURS = new Set(['worker', 'dedicatedworker', 'jsshell']);

/** These do nothing but talk to the server of the Web Platform Tests, by fetch or XMLHttpRequest. */
const NEEDS_SERVER = [
  /^encoding\/(replacement|unsupported)-encodings\./,
  /^fetch\/api\/headers\/header-values/,
  /^fetch\/api\/request\/request-cache-/,
  /^fetch\/content-encoding\//,
  /^FileAPI\/file\/send-file-formdata/,
];

/**
 * The `.any.js` files below `folder`, which is a checkout of the Web Platform Tests or a folder inside one. With patterns, those whose
 * path contains one of them.
 *
 * @throws {Error} when no `resources/testharness.js` is found in the folder or above it
 */
export function readSuite(folder: string, patterns: readonly string[] = []): WptSuite {
  const root = rootOf(resolve(folder));
  const paths = globSync('**/*.any.js', { cwd: folder })
    .map((path) => relative(root, resolve(folder, path)).split(sep).join('/'))
    .filter((path) => patterns.length === 0 || patterns.some((pattern) => path.includes(pattern)))
    .sort();
  return { root, tests: paths.flatMap((path) => parseTest(path, readFileSync(join(root, path), 'utf8'))) };
}

function rootOf(folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, 'resources/testharness.js'))) return at;
    if (at === dirname(at)) throw new Error(`${folder}: no resources/testharness.js there or above`);
  }
}

/** Reads the `// META:` lines at the top. */
export function parseTest(path: string, source: string): WptTest[] {
  const meta = source.split('\n').flatMap((line) => {
    const match = /^\/\/\s*META:\s*(\w+)=(.*?)\s*$/.exec(line);
    return match === null ? [] : [[match[1], match[2] ?? ''] as const];
  });
  const all = (key: string): string[] => meta.flatMap(([name, value]) => (name === key ? [value] : []));
  const globals = all('global').flatMap((value) => value.split(','));
  const variants = all('variant');
  const test = {
    path,
    title: all('title')[0],
    scripts: all('script').map((script) =>
      script.startsWith('/') ? script.slice(1) : posix.join(posix.dirname(path), script),
    ),
    timeoutMs: all('timeout').includes('long') ? LONG_TIMEOUT_MS : TIMEOUT_MS,
    ...leftOut(path, globals),
  };
  return (variants.length === 0 ? [''] : variants).map((variant) => ({ ...test, variant, id: path + variant }));
}

function leftOut(path: string, globals: readonly string[]): { leftOut?: string } {
  if (globals.length > 0 && !globals.some((global) => OURS.has(global)))
    return { leftOut: `for ${globals.join(', ')} only` };
  return NEEDS_SERVER.some((pattern) => pattern.test(path)) ? { leftOut: "needs the tests' own server" } : {};
}

/** A file of the checkout, or null where there is none. `path` is from the root and comes from a test: nothing outside is read. */
export function readBelow(root: string, path: string): Buffer | null {
  const full = resolve(root, `.${posix.normalize(`/${path}`)}`);
  if (!full.startsWith(root + sep) || !existsSync(full) || !statSync(full).isFile()) return null;
  return readFileSync(full);
}
