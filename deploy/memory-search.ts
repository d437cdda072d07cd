import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { CfnError } from '../proto/index.ts';

const WINDOW_BYTES = 4 * 1024 * 1024;
const PAGE_BYTES = 4096;
const PAGEMAP_ENTRIES = 8192;
const NEEDLE_BYTES_MIN = 7;

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
 * Searches the whole memory of processes for byte patterns (Linux: /proc/PID/maps, pagemap and mem; proc(5)): every page that is in
 * memory or swapped out, whatever its permissions. The caller must be allowed to trace them. It reads; nothing is trusted that the
 * processes say of themselves.
 *
 * @param patterns by name, at least 7 bytes each
 * @throws {CfnError} `CFN_INPUT_INVALID` for a pattern that is shorter: an empty one is everywhere
 */
export function searchMemory(pids: readonly number[], patterns: Readonly<Record<string, Uint8Array>>): MemorySearch {
  const needles = Object.entries(patterns).map(([name, bytes]) => ({ name, bytes: Buffer.from(bytes) }));
  for (const { name, bytes } of needles)
    if (bytes.length < NEEDLE_BYTES_MIN)
      throw new CfnError('CFN_INPUT_INVALID', `the pattern ${name} is empty or short: ${bytes.length} bytes`);
  const find = finder(needles);
  const overlap = Math.max(...needles.map(({ bytes }) => bytes.length)) - 1;
  const window = Buffer.alloc(WINDOW_BYTES);
  const hits: MemoryHit[] = [];
  let bytesSearched = 0;
  for (const pid of pids) {
    using memory = openMemory(pid);
    if (memory === undefined) continue;
    for (const { from, to, mapping } of memory.populated()) {
      for (let at = from; at < to;) {
        const length = memory.read(window, at, Math.min(WINDOW_BYTES, to - at));
        if (length === 0) break;
        const last = at + length >= to || length <= overlap;
        const fresh = last ? length : length - overlap; // what starts after that is found in the next window
        find(window, length, ({ name }, offset) => {
          if (offset < fresh) hits.push({ pid, pattern: name, address: (at + offset).toString(16), mapping });
        });
        bytesSearched += fresh;
        at += fresh;
      }
    }
  }
  window.fill(0); // it held other processes' memory
  return { hits, bytesSearched, processes: pids.length };
}

interface Needle {
  readonly name: string;
  readonly bytes: Buffer;
}

/**
 * Finds all needles in one pass. Wherever a needle of at least `step + 3` bytes lies, it covers a word (4 bytes) at an address that is a
 * multiple of `step`; so only those words are looked up, among the `step` words of each needle that can be there.
 */
function finder(
  needles: readonly Needle[],
): (window: Buffer, length: number, onHit: (needle: Needle, offset: number) => void) => void {
  const shortest = Math.min(...needles.map(({ bytes }) => bytes.length));
  const step = [16, 8, 4].find((bytes) => shortest >= bytes + 3) ?? 4;
  const anchors = new Map<number, { needle: Needle; offset: number }[]>();
  const maybe = new Uint8Array(65_536); // by a hash of the word: most words end here
  for (const needle of needles) {
    for (let phase = 0; phase < step; phase++) {
      let offset = phase;
      // Zeros are all over the memory: another word of the needle, if there is one.
      while (needle.bytes.readUInt32LE(offset) === 0 && offset + step + 4 <= needle.bytes.length) offset += step;
      const word = needle.bytes.readUInt32LE(offset);
      anchors.set(word, [...(anchors.get(word) ?? []), { needle, offset }]);
      maybe[(word ^ (word >>> 16)) & 0xffff] = 1;
    }
  }
  return (window, length, onHit) => {
    const words = new Uint32Array(window.buffer, window.byteOffset, length >>> 2);
    for (let i = 0; i < words.length; i += step / 4) {
      const word = words[i] ?? 0;
      if (maybe[(word ^ (word >>> 16)) & 0xffff] === 0) continue;
      for (const { needle, offset } of anchors.get(word) ?? []) {
        const start = i * 4 - offset;
        const end = start + needle.bytes.length;
        if (start >= 0 && end <= length && needle.bytes.compare(window, start, end) === 0) onHit(needle, start);
      }
    }
  };
}

interface Memory extends Disposable {
  /** Runs of pages that hold something, by address. */
  populated(): Generator<{ readonly from: number; readonly to: number; readonly mapping: string }>;
  /** Bytes read; 0 where the memory cannot be read (device memory). */
  read(into: Buffer, address: number, length: number): number;
}

/** Undefined when the process has ended: it has no memory. */
function openMemory(pid: number): Memory | undefined {
  let mem: number;
  try {
    mem = openSync(`/proc/${pid}/mem`, 'r');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r');
  const readAt = (file: number, into: Buffer, position: number, length: number): number => {
    try {
      return readSync(file, into, 0, length, position);
    } catch {
      return 0;
    }
  };
  function* pagesOf(from: number, to: number): Generator<{ readonly from: number; readonly to: number }> {
    const entries = Buffer.alloc(PAGEMAP_ENTRIES * 8);
    let start: number | undefined;
    for (let at = from; at < to;) {
      const count = Math.min(PAGEMAP_ENTRIES, (to - at) / PAGE_BYTES);
      if (readAt(pagemap, entries, (at / PAGE_BYTES) * 8, count * 8) !== count * 8)
        return yield { from: start ?? at, to };
      for (let i = 0; i < count; i++, at += PAGE_BYTES) {
        const holds = (entries[i * 8 + 7] ?? 0) >= 0x40; // bit 63: present, bit 62: swapped out
        if (holds) start ??= at;
        else if (start !== undefined) {
          yield { from: start, to: at };
          start = undefined;
        }
      }
    }
    if (start !== undefined) yield { from: start, to };
  }
  return {
    *populated() {
      for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
        const [, from = '', to = '', mapping = ''] =
          /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
        if (from === '' || mapping.startsWith('[v')) continue; // [vvar], [vdso], [vsyscall]: the kernel's
        for (const run of pagesOf(Number.parseInt(from, 16), Number.parseInt(to, 16))) yield { ...run, mapping };
      }
    },
    read: (into, address, length) => readAt(mem, into, address, length),
    [Symbol.dispose]() {
      closeSync(mem);
      closeSync(pagemap);
    },
  };
}
