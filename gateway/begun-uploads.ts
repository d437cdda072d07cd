import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BEGUN_BYTES_MAX, BEGUN_MS_MAX } from './limits.ts';

const NAME = /^[0-9a-f]{64}-([0-9a-f]{64})\.begun$/;
/** What one counts for at least, in bytes: files, too, are bounded. */
const COUNTED_BYTES_MIN = 16 * 1024 * 1024;

/** Name of the file of an upload that has begun: one of a blob for each uploader, so that nobody can spoil another's. */
export const begunName = (digest: string, by: string): string =>
  `${digest}-${createHash('sha256').update(by).digest('hex')}.begun`;

export const isBegun = (name: string): boolean => NAME.test(name);

/** Names of the uploads to drop: those left for too long, and of an uploader with too many bytes the ones left for the longest. */
export async function surplusUploads(incoming: string, now: Date): Promise<string[]> {
  const found = [];
  for (const name of await readdir(incoming)) {
    const by = NAME.exec(name)?.[1];
    const file = by === undefined ? undefined : await stat(join(incoming, name)).catch(() => undefined);
    // One that is gone has ended meanwhile.
    if (by !== undefined && file !== undefined) found.push({ name, by, bytes: file.size, at: file.mtimeMs });
  }
  found.sort((a, b) => b.at - a.at);
  const bytesOf = new Map<string, number>();
  return found
    .filter(({ by, bytes, at }) => {
      const total = (bytesOf.get(by) ?? 0) + Math.max(bytes, COUNTED_BYTES_MIN);
      bytesOf.set(by, total);
      return total > BEGUN_BYTES_MAX || at <= now.getTime() - BEGUN_MS_MAX;
    })
    .map(({ name }) => name);
}
