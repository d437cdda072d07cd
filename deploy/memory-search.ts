import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { CfnError } from '../proto/index.ts';

const WINDOW_BYTES = 4 * 1024 * 1024;

/** Where a pattern was found. */
export interface MemoryHit {
  readonly pid: number;
  readonly pattern: string;
  readonly address: string;
  /** The mapping's name in /proc/PID/maps; empty for anonymous memory. */
  readonly mapping: string;
}
export interface MemorySearch {
  readonly hits: readonly MemoryHit[];
  readonly bytesSearched: number;
  readonly processes: number;
}

/** A process and all its descendants. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      continue; // it ended meanwhile
    }
  }
  const tree = [root];
  for (let i = 0; i < tree.length; i++) tree.push(...(children.get(tree[i] ?? -1) ?? []));
  return tree;
}

/**
 * Searches the whole readable memory of processes for byte patterns (Linux: /proc/PID/maps and /proc/PID/mem).
 * The caller must be allowed to trace them. It reads; nothing is trusted that the processes say of themselves.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` for an empty pattern
 */
export function searchMemory(pids: readonly number[], patterns: Readonly<Record<string, Uint8Array>>): MemorySearch {
  const needles = Object.entries(patterns).map(([name, bytes]) => [name, Buffer.from(bytes)] as const);
  // An empty pattern is everywhere: whoever searches for one has lost what was to be found.
  for (const [name, needle] of needles)
    if (needle.length === 0) throw new CfnError('CFN_INPUT_INVALID', `the pattern ${name} is empty`);
  const overlap = Math.max(...needles.map(([, needle]) => needle.length)) - 1;
  const window = Buffer.alloc(WINDOW_BYTES);
  const hits: MemoryHit[] = [];
  let bytesSearched = 0;
  for (const pid of pids) {
    const mem = openSync(`/proc/${pid}/mem`, 'r');
    try {
      for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
        const match = /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+\s*(.*)$/.exec(line);
        if (match === null || match[3] === '[vvar]' || match[3] === '[vsyscall]') continue;
        const end = Number.parseInt(match[2] ?? '', 16);
        let at = Number.parseInt(match[1] ?? '', 16);
        while (at < end) {
          const length = readAt(mem, window, at, Math.min(WINDOW_BYTES, end - at));
          if (length === 0) break;
          bytesSearched += length;
          for (const [pattern, needle] of needles) {
            for (
              let i = window.subarray(0, length).indexOf(needle);
              i >= 0;
              i = window.subarray(0, length).indexOf(needle, i + 1)
            ) {
              hits.push({ pid, pattern, address: (at + i).toString(16), mapping: match[3] ?? '' });
            }
          }
          at += length <= overlap || at + length >= end ? length : length - overlap;
        }
      }
    } finally {
      closeSync(mem);
    }
  }
  window.fill(0); // it held other processes' memory
  return { hits, bytesSearched, processes: pids.length };
}

/** Bytes read; 0 where the mapping cannot be read (guard pages, device memory). */
function readAt(file: number, into: Buffer, position: number, length: number): number {
  try {
    return readSync(file, into, 0, length, position);
  } catch {
    return 0;
  }
}
