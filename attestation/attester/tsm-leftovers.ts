import type { TsmOptions } from './configfs-tsm.ts';

const ENTRY = /^cfn-(\d{1,10})-[0-9a-f-]{36}$/;

/** A name that no other request has, and that says whose it is. */
export function newEntryName(): string {
  return `cfn-${process.pid}-${crypto.randomUUID()}`;
}

/** Paths of entries that were made as {@link newEntryName} says, by processes that run no more. */
export async function leftoverEntries(
  directory: string,
  { files, isRunning }: Pick<TsmOptions, 'files' | 'isRunning'>,
): Promise<string[]> {
  const names = await files.list(directory).catch(() => []);
  return names
    .filter((name) => {
      const pid = ENTRY.exec(name)?.[1];
      return pid !== undefined && !isRunning(Number(pid));
    })
    .map((name) => `${directory}/${name}`);
}
