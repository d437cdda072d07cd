import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { processTree, searchMemory, type MemoryHit } from '../../deploy/index.ts';
import type { TestSystem } from '../local-system.ts';

/** Where a form of a marker was found, in words. */
export interface Leftovers {
  readonly places: readonly string[];
  readonly bytesSearched: number;
}

/** Stops all processes of the worker while it reads their memory: what is found is of one moment. */
export function searchWorker(system: TestSystem, forms: Readonly<Record<string, Uint8Array>>): Leftovers {
  const pids = processTree(system.local.worker().pid);
  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    for (const pid of pids) {
      try {
        process.kill(pid, name);
      } catch {
        continue; // it has ended
      }
    }
  };
  signal('SIGSTOP');
  try {
    const { hits, bytesSearched } = searchMemory(pids.filter(isAlive), forms);
    return { places: summary(hits), bytesSearched };
  } finally {
    signal('SIGCONT');
  }
}

/** Everything that the services write: files of their state, what they print, their metrics, and the traces that a collector got. */
export async function searchRecords(
  system: TestSystem,
  needles: readonly Uint8Array[],
  traces: readonly Buffer[] = [],
): Promise<string[]> {
  const { local, stateDir, logs } = system;
  const metrics = await (await fetch(`${local.adminUrl}/metrics`)).arrayBuffer();
  const records: [string, Buffer][] = [
    ['metrics of the gateway', Buffer.from(metrics)],
    ['what the services print', Buffer.from(logs.join('\n'))],
    ['traces', Buffer.concat(traces)],
    ...readdirSync(stateDir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry): [string, Buffer] => {
        const path = join(entry.parentPath, entry.name);
        return [path, readFileSync(path)];
      }),
  ];
  return records.flatMap(([name, bytes]) =>
    needles.some((needle) => bytes.includes(Buffer.from(needle))) ? [name] : [],
  );
}

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** One line for each form, process and kind of mapping. */
function summary(hits: readonly MemoryHit[]): string[] {
  const maps = new Map<number, readonly (readonly [from: number, to: number, line: string])[]>();
  const counts = new Map<string, number>();
  for (const { pid, pattern, address } of hits) {
    if (!maps.has(pid)) maps.set(pid, mappings(pid));
    const at = Number.parseInt(address, 16);
    const [from = 0, to = 0, line = 'unmapped'] = maps.get(pid)?.find(([start, end]) => start <= at && at < end) ?? [];
    const place = `${pattern} in ${program(pid)}: ${(to - from) / 1024} KiB ${line}`;
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return [...counts].map(([place, count]) => `${count} × ${place}`);
}

function mappings(pid: number): (readonly [number, number, string])[] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .map((line) => {
      const [, from = '0', to = '0', rest = ''] = /^([0-9a-f]+)-([0-9a-f]+) (.*)$/.exec(line) ?? [];
      return [Number.parseInt(from, 16), Number.parseInt(to, 16), rest.replace(/\s+/g, ' ')] as const;
    });
}

export function program(pid: number): string {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return (
      args
        .find((part) => /\.(ts|cjs)$/.test(part))
        ?.split('/')
        .slice(-3)
        .join('/') ?? String(pid)
    );
  } catch {
    return String(pid);
  }
}
