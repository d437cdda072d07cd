import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface KmsProcess {
  readonly child: ChildProcess;
  readonly url: string;
  readonly publicKey: string;
  /** What it wrote to stderr so far. */
  errors(): string;
}

const main = fileURLToPath(new URL('main.ts', import.meta.url));

export function runKms(
  flags: readonly string[],
  env: Record<string, string> = {},
): { child: ChildProcess; errors: () => string } {
  const child = spawn(process.execPath, [main, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let text = '';
  child.stderr.on('data', (chunk) => (text += String(chunk)));
  return { child, errors: () => text };
}

/** Starts `kms/main.ts`, and waits until it serves. */
export async function startKmsProcess(flags: readonly string[], env: Record<string, string> = {}): Promise<KmsProcess> {
  const { child, errors } = runKms(flags, env);
  if (child.stdout === null) throw new Error('no stdout');
  const lines = createInterface(child.stdout);
  const line: unknown = await Promise.race([once(lines, 'line'), once(child, 'exit')]).then(
    ([first]: unknown[]) => first,
  );
  if (typeof line !== 'string') throw new Error(`did not start: ${errors()}`);
  const { url, publicKey } = JSON.parse(line) as { url: string; publicKey: string };
  return { child, errors, url, publicKey };
}

/** Runs it to its end. @returns exit code, and the code of the error that it wrote */
export async function endedKms(
  flags: readonly string[],
  env?: Record<string, string>,
): Promise<{ exit: unknown; code: string | undefined }> {
  const { child, errors } = runKms(flags, env);
  const [exit] = (await once(child, 'close')) as unknown[];
  const [line = '{}'] = errors().split('\n');
  return { exit, code: (JSON.parse(line === '' ? '{}' : line) as { code?: string }).code };
}
