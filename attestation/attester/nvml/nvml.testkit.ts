import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const local = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Why the tests against the C library do not run here; `undefined` when they do. In CI they have to. */
export const skipReason: string | undefined = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return process.env['CI'] ? undefined : 'there is no C compiler (cc)';
  }
})();

/** A stand-in for `libnvidia-ml.so.1`, compiled from C, that answers from recorded H100 evidence. */
export interface FakeNvml {
  readonly library: string;
  /** Recorded bytes that it answers with. */
  readonly report: Uint8Array;
  readonly chain: string;
  /** What it answers from now on: see the head of the C file. */
  turn(knobs: Readonly<Record<string, number>>): void;
  /** Names of the calls so far, with the process that made them. */
  calls(): { readonly pid: number; readonly name: string }[];
  delete(): void;
}

export function compileFakeNvml(flags: readonly string[] = []): FakeNvml {
  const directory = mkdtempSync(join(tmpdir(), 'cfn-nvml-'));
  const library = join(directory, 'libnvidia-ml.so.1');
  const flagsOfAll = '-std=gnu11 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libnvidia-ml.so.1'.split(' ');
  const source = local('./libnvidia-ml.test-double.c');
  execFileSync('cc', [...flagsOfAll, `-DCFN_VECTORS="${directory}"`, ...flags, '-o', library, source]);
  copyFileSync(local('../../vectors/h100-550.90.07.bin'), join(directory, 'report.bin'));
  copyFileSync(local('../../vectors/h100-550.90.07.pem'), join(directory, 'chain.pem'));
  const calls = join(directory, 'calls');
  writeFileSync(calls, '');
  return {
    library,
    report: new Uint8Array(readFileSync(join(directory, 'report.bin'))),
    chain: readFileSync(join(directory, 'chain.pem'), 'latin1'),
    turn: (knobs) =>
      writeFileSync(
        join(directory, 'knobs'),
        Object.entries(knobs)
          .map(([name, value]) => `${name} ${value}\n`)
          .join(''),
      ),
    calls: () =>
      readFileSync(calls, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => ({ pid: Number(line.split(' ')[0]), name: line.split(' ')[1] ?? '' })),
    delete: () => rmSync(directory, { recursive: true, force: true }),
  };
}
