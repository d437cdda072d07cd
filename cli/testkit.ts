import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Context } from './context.ts';

/** What a run of `cfn` left behind. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `cfn` as a person would: a process of its own, with nothing of our environment but what is given. */
export function runCfn(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Record<string, string>; readonly input?: string },
): Promise<Ended> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const env = { PATH: process.env['PATH'] ?? '', HOME: options.cwd, ...options.env };
  const child = spawn(process.execPath, [main, ...args], { cwd: options.cwd, env, stdio: 'pipe' });
  child.stdin.end(options.input ?? '');
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** A context that keeps what is written; `terminal` makes stderr one. */
export function recordingContext(change: Partial<Context> & { readonly terminal?: boolean } = {}): {
  context: Context;
  written: { stdout: string; stderr: string };
} {
  const written = { stdout: '', stderr: '' };
  const sink = (name: 'stdout' | 'stderr'): Context['stdout'] => ({
    write: (data) => (written[name] += typeof data === 'string' ? data : new TextDecoder().decode(data)),
    isTTY: change.terminal === true,
  });
  const { terminal: _, ...rest } = change;
  const context: Context = {
    env: {},
    cwd: '/',
    stdin: (async function* () {})(),
    stdout: sink('stdout'),
    stderr: sink('stderr'),
    fetch: () => Promise.reject(new Error('no network in this test')),
    now: () => new Date('2026-11-01T00:00:00Z'),
    monotonicMs: () => 0,
    randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    ended: new AbortController().signal,
    ...rest,
  };
  return { context, written };
}
