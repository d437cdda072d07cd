import { execFileSync } from 'node:child_process';
import { watch } from 'node:fs';
import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kernelFiles, type KernelFiles } from './files.ts';
import { recorded } from './tsm.testkit.ts';

export interface WatchedTsm extends AsyncDisposable {
  readonly directory: string;
  /** Sizes of `inblob` seen when it changed: a request in two writes would show as a smaller one. */
  readonly inblobSizes: number[];
  /** The real ones, except that making an entry and removing it have to bring and take the attributes. */
  readonly files: KernelFiles;
}

/**
 * A folder that somebody else watches and reacts in, as a check of the real file operations: `inblob` is a plain file, and `outblob` a
 * named pipe, so that opening it blocks until there is an answer, as in the kernel.
 */
export async function watchedTsm(): Promise<WatchedTsm> {
  const directory = await mkdtemp(join(tmpdir(), 'cfn-tsm-'));
  const inblobSizes: number[] = [];
  const watchers = new Map<string, AbortController>();

  async function react(entry: string): Promise<void> {
    const { size } = await stat(join(entry, 'inblob'));
    if (size === 0) return;
    inblobSizes.push(size);
    if ((await readFile(join(entry, 'generation'), 'utf8')) !== '0\n') return;
    await writeFile(join(entry, 'generation'), '1\n');
    const reportData = new Uint8Array(await readFile(join(entry, 'inblob')));
    await using pipe = await open(join(entry, 'outblob'), 'w'); // until somebody reads
    await pipe.writeFile(recorded.tdx(reportData));
  }

  async function make(entry: string): Promise<void> {
    await kernelFiles.make(entry);
    await writeFile(join(entry, 'provider'), 'tdx_guest\n');
    await writeFile(join(entry, 'generation'), '0\n');
    await writeFile(join(entry, 'inblob'), '');
    execFileSync('mkfifo', [join(entry, 'outblob')]);
    const stop = new AbortController();
    watchers.set(entry, stop);
    let reaction: Promise<void> = Promise.resolve();
    watch(join(entry, 'inblob'), { signal: stop.signal }, () => {
      reaction = reaction.then(() => react(entry)).catch(() => undefined);
    });
  }

  async function remove(entry: string): Promise<void> {
    watchers.get(entry)?.abort();
    await rm(entry, { recursive: true });
  }

  return {
    directory,
    inblobSizes,
    files: { ...kernelFiles, make, remove },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
