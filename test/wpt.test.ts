import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { compare } from './wpt/expectations.ts';
import { parseTest, readBelow, readSuite } from './wpt/suite.ts';

const local = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const fixture = local('./fixtures/wpt');

async function wpt(...args: string[]): Promise<{ code: number | null; out: string }> {
  const child = spawn(process.execPath, ['--no-node-snapshot', local('./wpt/main.ts'), ...args]);
  let out = '';
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (out += data));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, out };
}

test('the copied Web Platform Tests do as the list says', { timeout: 120_000 }, async () => {
  const { code, out } = await wpt(fixture);
  expect(out).toContain('ok   html/webappapis/atob/base64.any.js: 380 passed, 0 failed');
  expect(out).toMatch(/\d{3,} passed, \d+ failed\n$/);
  expect(code).toBe(0);
});

describe('a checkout of our own', () => {
  let root = '';
  let list = '';
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const expectFailures = (failures: object): void => writeFileSync(list, JSON.stringify(failures));
  beforeEach(() => {
    const dir = mkdtempSync(join(tmpdir(), 'cfn-wpt-'));
    root = join(dir, 'wpt');
    list = join(dir, 'expectations.json');
    cpSync(join(fixture, 'resources'), join(root, 'resources'), { recursive: true });
    writeFileSync(join(dir, 'secret.txt'), 'outside');
    expectFailures({});
  });
  afterEach(() => rmSync(dirname(root), { recursive: true, force: true }));

  test('scripts, variants, fetched files and timers are there; microtasks do not close the harness', async () => {
    put('shared.js', 'const shared = 1;');
    put('a/near.js', 'var near = shared + 1;');
    put('a/data.txt', 'data ü');
    put(
      'a/all.any.js',
      `// META: script=/shared.js
// META: script=near.js
// META: title=The title
// META: variant=?1
// META: variant=?2
promise_test(async () => { await 0; assert_equals(near, 2); });
promise_test(async () => assert_equals(await (await fetch('data.txt')).text(), 'data ü'), 'fetched');
promise_test(async () => assert_equals((await fetch('/none.txt')).status, 404), 'not there');
promise_test(async () => assert_equals((await fetch('/..%2f..%2fsecret.txt')).status, 404), 'not outside');
promise_test((t) => promise_rejects_js(t, TypeError, fetch('https://example.com/')), 'no network');
async_test((t) => { const began = Date.now(); t.step_timeout(() => { assert_greater_than_equal(Date.now() - began, 19); t.done(); }, 20); }, 'timer');
test(() => assert_in_array(location.search, ['?1', '?2']), 'variant');`,
    );
    put('only.any.js', '// META: global=window,serviceworker\ntest(() => assert_true(false));');
    const { code, out } = await wpt(root, '--expectations', list, '--verbose');
    expect(out).toContain('ok   a/all.any.js?1: 7 passed, 0 failed');
    expect(out).toContain('ok   a/all.any.js?2: 7 passed, 0 failed');
    expect(out).toContain('left out only.any.js: for window, serviceworker only');
    expect(out).toMatch(/14 passed, 0 failed\n$/);
    expect(code).toBe(0);
  });

  test('a failure that is not on the list is refused; one that is, is not', async () => {
    put('b.any.js', `test(() => assert_true(false), 'wrong'); test(() => {}, 'right');`);
    const first = await wpt(root, '--expectations', list);
    expect(first.out).toContain('fails, and is not expected to: b.any.js: wrong');
    expect(first.out).toMatch(/1 passed, 1 failed\n$/);
    expect(first.code).toBe(1);
    expectFailures({ 'b.any.js': ['wrong'] });
    expect((await wpt(root, '--expectations', list)).code).toBe(0);
  });

  test('a pass that the list does not expect is refused until --update has shrunk the list, which adds nothing', async () => {
    put('b.any.js', `test(() => assert_true(false), 'wrong'); test(() => {}, 'right');`);
    put('c.any.js', `test(() => {}, 'right');`);
    expectFailures({ 'b.any.js': ['right'], 'c.any.js': ['right'], 'not-run.any.js': ['x'] });
    const refused = await wpt(root, '--expectations', list);
    expect(refused.out).toContain('passes, and is expected to fail (--update takes it off the list): c.any.js: right');
    expect(refused.code).toBe(1);
    expect((await wpt(root, '--expectations', list, '--update')).code).toBe(1); // 'wrong' still fails
    expect(JSON.parse(readFileSync(list, 'utf8'))).toEqual({ 'not-run.any.js': ['x'] });
    expect((await wpt(root, 'c.any', '--expectations', list)).code).toBe(0);
  });

  test('what throws, hangs or takes all memory fails by itself, and the next test runs', async () => {
    put('1.any.js', `test(() => {}, 'fine'); throw new Error('outside of tests');`);
    put('2.any.js', `const all = []; for (;;) all.push(new Array(1e6).fill({}));`);
    put('3.any.js', `test(() => {}, 'fine');`);
    const { code, out } = await wpt(root, '--expectations', list, '--jobs', '1', '--json');
    const { files } = JSON.parse(out) as { files: { id: string; passed: number; failures: { message: string }[] }[] };
    expect(files.map(({ passed }) => passed)).toEqual([0, 0, 1]);
    expect(files[0]?.failures[0]?.message).toContain('outside of tests');
    expect(code).toBe(1);
  });
});

test('a suite is found from any folder inside a checkout, and nowhere else', () => {
  expect(readSuite(join(fixture, 'html/webappapis')).tests.map(({ id }) => id)).toContain(
    'html/webappapis/atob/base64.any.js',
  );
  expect(readSuite(fixture, ['dom/abort']).tests.every(({ id }) => id.startsWith('dom/abort/'))).toBe(true);
  expect(() => readSuite(tmpdir())).toThrow('no resources/testharness.js');
});

test('META lines are read', () => {
  const [long] = parseTest(
    'a/b.any.js',
    '// META: timeout=long\n// META: script=../c.js\n// META: global=window,worker\n',
  );
  expect(long).toMatchObject({ timeoutMs: 60_000, scripts: ['c.js'], variant: '' });
  expect(long?.leftOut).toBeUndefined();
  expect(parseTest('fetch/api/request/request-cache-default.any.js', '')[0]?.leftOut).toContain('server');
  expect(parseTest('a.any.js', '')[0]).toMatchObject({ timeoutMs: 10_000, id: 'a.any.js' });
});

test('nothing outside the checkout is read', () => {
  expect(readBelow(fixture, '../../wpt.test.ts')).toBeNull();
  expect(readBelow(fixture, '/dom')).toBeNull();
  expect(readBelow(fixture, 'LICENSE.md')).not.toBeNull();
});

test('a file expected to fail as a whole is off the list only when all of it passes', () => {
  const failing = { id: 'a', passed: 1, failures: [{ name: 'x', message: '' }] };
  expect(compare([failing], { a: ['*'] })).toEqual({
    unexpectedFailures: [],
    unexpectedPasses: [],
    shrunk: { a: ['*'] },
  });
  expect(compare([{ ...failing, failures: [] }], { a: ['*'] }).shrunk).toEqual({});
});
