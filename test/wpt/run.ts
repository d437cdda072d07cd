import { startTestSandbox, type TestSandbox } from '../../runtime/sandbox/testing.ts';
import { pageOf, RUNNER_BUNDLE } from './page.ts';
import { readBelow, type WptSuite, type WptTest } from './suite.ts';

export interface FileResult {
  readonly id: string;
  readonly passed: number;
  /** Name and message of each subtest that did not pass; a harness that did not end well is one, called `(harness)`. */
  readonly failures: readonly { readonly name: string; readonly message: string }[];
}
type Page =
  | { readonly missing: string }
  | {
      readonly harness: { readonly status: number; readonly message: string | null };
      readonly tests: readonly { readonly name: string; readonly status: number; readonly message: string | null }[];
    };

/** Between the harness's own limit and the end of the invocation, in ms: for the results to get out. */
const GRACE_MS = 5_000;
/** Files that one test may fetch. */
const FILES_MAX = 16;

/** Runs tests, `jobs` at once, each as a request to a function in a sandbox process; in each process one at a time. */
export async function runSuite(
  { root, tests }: WptSuite,
  jobs: number,
  onResult: (result: FileResult) => void,
): Promise<void> {
  const queue = tests.filter((test) => test.leftOut === undefined);
  async function work(): Promise<void> {
    let sandbox: TestSandbox | undefined;
    for (let test = queue.shift(); test !== undefined; test = queue.shift()) {
      try {
        sandbox ??= await startTestSandbox(RUNNER_BUNDLE, { limits: LIMITS, poolSize: 1 });
        onResult(await runTest(sandbox, root, test));
      } catch (error) {
        onResult(failed(test.id, error instanceof Error ? error.message : 'failed')); // V8 ran out of memory, mostly
        await sandbox?.close();
        sandbox = undefined;
      }
    }
    await sandbox?.close();
  }
  await Promise.all(Array.from({ length: jobs }, work));
}
const LIMITS = { cpuMs: 60_000, wallMs: 70_000, memoryMb: 256 };

const failed = (id: string, message: string): FileResult => ({
  id,
  passed: 0,
  failures: [{ name: '(harness)', message }],
});

async function runTest(sandbox: TestSandbox, root: string, test: WptTest): Promise<FileResult> {
  const files: Record<string, string | null> = {};
  for (;;) {
    const answer = await sandbox.call({
      method: 'POST',
      body: pageOf(root, test, files),
      wallMs: test.timeoutMs + GRACE_MS,
    });
    if (answer.done.code !== undefined) return failed(test.id, `the invocation ended with ${answer.done.code}`);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our prelude wrote it
    const page = JSON.parse(answer.body) as Page;
    if (!('missing' in page)) return resultOf(test.id, page);
    if (Object.keys(files).length >= FILES_MAX) return failed(test.id, `fetches more than ${FILES_MAX} files`);
    files[page.missing] = readBelow(root, page.missing)?.toString('latin1') ?? null;
  }
}

function resultOf(id: string, { harness, tests }: Exclude<Page, { missing: string }>): FileResult {
  const failures = tests
    .filter(({ status }) => status !== 0)
    .map(({ name, message }) => ({ name, message: message ?? '' }));
  const passed = tests.length - failures.length;
  if (harness.status !== 0 || tests.length === 0)
    failures.push({ name: '(harness)', message: harness.message ?? 'no test ran' });
  return { id, passed, failures };
}
