import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** Groups of this process so far: names are its own, whoever asks. */
let made = 0;

/** What one jail may use. */
export interface Bounds {
  readonly memoryBytes: number;
  /** Threads and processes. */
  readonly tasks: number;
}
type Resource = 'memory' | 'pids';

/** Control groups that this process may make, for one resource or both. */
export interface Cgroups {
  readonly version: 1 | 2;
  readonly resources: readonly Resource[];
  /** Makes a group with these bounds. */
  make(bounds: Bounds): Cgroup;
}

export interface Cgroup {
  /** Whoever writes its pid there joins, with all that it starts. */
  readonly joinFiles: readonly string[];
  /** Takes the group away once its processes have ended. */
  remove(): Promise<void>;
}

/** Where the kernel says it; a test has folders of its own. */
export interface CgroupFiles {
  /** `/proc` */
  readonly proc: string;
  readonly pid: number;
  /** Ends a process that a dead worker left. */
  readonly kill: (pid: number) => void;
}

const NAME = /^cfn-(\d+)-(\d+)-\d+$/;
/** The kernel takes a moment to let go of a group whose last process has ended. */
const REMOVE_TRIES = 20;
const REMOVE_PAUSE_MS = 25;

/**
 * Finds where groups can be made, below the worker's own group or beside it, and removes what workers left that are no more.
 * Version 2 is taken where it has both resources, otherwise version 1. What cannot be had is left out of `resources`.
 */
export function openCgroups(files: CgroupFiles): Cgroups | undefined {
  const mounts = cgroupMounts(readText(join(files.proc, 'self/mountinfo')));
  const own = ownGroups(readText(join(files.proc, 'self/cgroup')));
  const v2 = mounts.find(({ version }) => version === 2);
  const unified = v2 === undefined ? undefined : delegated(candidates(v2, own.get('') ?? '/'));
  const parents: { folder: string; resources: readonly Resource[] }[] =
    unified === undefined
      ? (['memory', 'pids'] as const).flatMap((resource) => {
          const mount = mounts.find(({ version, controllers }) => version === 1 && controllers.includes(resource));
          const folder =
            mount === undefined
              ? undefined
              : candidates(mount, own.get(resource) ?? '/').find(writable(files, resource));
          return folder === undefined ? [] : [{ folder, resources: [resource] }];
        })
      : [{ folder: unified, resources: ['memory', 'pids'] }];
  if (parents.length === 0) return undefined;
  const version = unified === undefined ? 1 : 2;
  for (const { folder } of parents) sweep(folder, files);

  const prefix = `cfn-${files.pid}-${startTime(files.proc, files.pid)}-`;
  return {
    version,
    resources: parents.flatMap(({ resources }) => resources),
    make(bounds) {
      const folders = parents.map(({ folder }) => join(folder, `${prefix}${++made}`));
      try {
        for (const [i, { resources }] of parents.entries()) {
          const folder = folders[i] ?? '';
          mkdirSync(folder);
          for (const resource of resources) setBound(version, resource, folder, bounds);
        }
      } catch (error) {
        folders.forEach(tryRemove);
        throw error;
      }
      return {
        joinFiles: folders.map((folder) => join(folder, 'cgroup.procs')),
        async remove() {
          for (let left = folders, tries = 0; left.length > 0 && tries < REMOVE_TRIES; tries++) {
            left = left.filter((folder) => !tryRemove(folder));
            if (left.length > 0) await wait(REMOVE_PAUSE_MS);
          }
        },
      };
    },
  };
}

function setBound(version: 1 | 2, resource: Resource, folder: string, { memoryBytes, tasks }: Bounds): void {
  const set = (file: string, value: number): void => writeFileSync(join(folder, file), String(value));
  if (resource === 'pids') return set('pids.max', tasks);
  set(version === 2 ? 'memory.max' : 'memory.limit_in_bytes', memoryBytes);
  // No swap beside it: it would let the bound be passed, and write memory to a disk. Not every kernel counts swap.
  if (version === 2) attempt(() => set('memory.swap.max', 0));
  else attempt(() => set('memory.memsw.limit_in_bytes', memoryBytes));
}

interface Mount {
  readonly version: 1 | 2;
  readonly folder: string;
  /** The group that the mount shows at its top. */
  readonly root: string;
  readonly controllers: readonly string[];
}

/** proc(5), mountinfo: `id parent dev root mountpoint options… - type source superoptions`. */
function cgroupMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [, , , top = '/', folder = ''] = left.split(' ');
    const [type, , options = ''] = right.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') return [];
    return [
      { version: type === 'cgroup' ? (1 as const) : (2 as const), folder, root: top, controllers: options.split(',') },
    ];
  });
}

/** cgroups(7): `id:controllers:path`; version 2 has no controllers. */
function ownGroups(text: string): Map<string, string> {
  const lines = text.split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    return controllers === undefined || path === undefined ? [] : [{ controllers, path }];
  });
  return new Map(lines.flatMap(({ controllers, path }) => controllers.split(',').map((name) => [name, path] as const)));
}

/** The own group, and the one above: version 2 allows groups below only where no process is, so a delegated worker has a leaf. */
function candidates({ folder, root }: Mount, own: string): string[] {
  const inside = root !== '/' && own.startsWith(root) ? own.slice(root.length) : own;
  const group = join(folder, inside);
  return group === folder || group === `${folder}/` ? [folder] : [group, dirname(group)];
}

/** The first group of version 2 whose children can have both bounds. */
function delegated(groups: readonly string[]): string | undefined {
  return groups.find((folder) => {
    const has = (file: string): boolean =>
      ['memory', 'pids'].every((name) => readText(join(folder, file)).split(/\s+/).includes(name));
    if (!has('cgroup.controllers')) return false;
    if (!has('cgroup.subtree_control')) {
      attempt(() => writeFileSync(join(folder, 'cgroup.subtree_control'), '+memory +pids'));
    }
    return has('cgroup.subtree_control');
  });
}

/** A group can be made there and bounded. */
function writable({ proc, pid }: CgroupFiles, resource: Resource): (folder: string) => boolean {
  return (folder) => {
    const trial = join(folder, `cfn-${pid}-${startTime(proc, pid)}-0`);
    try {
      mkdirSync(trial);
      setBound(1, resource, trial, { memoryBytes: 64 * 1024 * 1024, tasks: 16 });
      return true;
    } catch {
      return false;
    } finally {
      tryRemove(trial);
    }
  };
}

/** Ends what is left in groups of workers that are no more, and removes them. */
function sweep(folder: string, { proc, kill }: CgroupFiles): void {
  for (const name of attempt(() => readdirSync(folder)) ?? []) {
    const [, pid, started] = NAME.exec(name) ?? [];
    if (pid === undefined || startTime(proc, Number(pid)) === started) continue;
    const left = readText(join(folder, name, 'cgroup.procs'))
      .split('\n')
      .filter(Boolean)
      .map(Number);
    if (left.includes(0)) continue; // of another pid namespace: not ours to judge
    for (const process_ of left) attempt(() => kill(process_));
    tryRemove(join(folder, name)); // what is still ending is removed at the next start
  }
}

/** Field 22 of proc(5) stat, in ticks since boot: a pid alone may be another's by now. */
function startTime(proc: string, pid: number): string {
  const stat = readText(join(proc, String(pid), 'stat'));
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function tryRemove(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

function readText(file: string): string {
  return attempt(() => readFileSync(file, 'utf8')) ?? '';
}
function attempt<T>(what: () => T): T | undefined {
  try {
    return what();
  } catch {
    return undefined;
  }
}
