import { CfnError } from '../proto/index.ts';
import { hiddenPrompt } from './hidden-prompt.ts';
import { run } from './run.ts';

/** The program `cfn`: the one place here that touches the process. */
const ended = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => ended.abort(new CfnError('CFN_ABORTED', 'ended by the user'))); // A second signal ends the process at once, as `once` leaves the default behind.
}
// `cfn … | head` closes our output early; that is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  stdin: process.stdin,
  promptHidden: process.stdin.isTTY ? hiddenPrompt(process.stdin, process.stderr) : undefined,
  stdout: process.stdout,
  stderr: process.stderr,
  fetch: globalThis.fetch,
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
  ended: ended.signal,
});
