import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { visibleFiles, type Kind } from './files.ts';

/** The `bwrap` of this machine; `undefined` when there is none. */
export function findBubblewrap(path = process.env['PATH'] ?? '/usr/bin:/bin'): string | undefined {
  return path
    .split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, 'bwrap'))
    .find(isExecutable);
}

/** Everything of a jail that is a folder or a file from outside. */
export interface Mounts {
  /** The one folder for sockets, at the same path inside; an engine makes sockets there. */
  readonly sockets?: string;
  /** What only a test mounts, read-only: path outside, path inside. */
  readonly extra?: readonly (readonly [outside: string, inside: string])[];
}

const NAMESPACES = ['user', 'pid', 'net', 'ipc', 'uts', 'cgroup'].map((name) => `--unshare-${name}`); // and mount, always
const NOBODY = ['--uid', '65534', '--gid', '65534', '--hostname', 'cfn', '--cap-drop', 'ALL'];
const ENDS_WITH_WORKER = ['--die-with-parent', '--new-session'];
/**
 * Files below /proc/sys belong to root outside. Where the worker is root, so is this process to the kernel, and could write
 * kernel.core_pattern: hence read-only, like the rest.
 */
const PROC = ['--proc', '/proc', '--remount-ro', '/proc'];
const DEVICES = ['--dev-bind', '/dev/null', '/dev/null'];
const SEALED = ['--remount-ro', '/', '--chdir', '/'];

/**
 * Arguments of bubblewrap, up to the command: namespaces of its own, no capability, and a file system that holds what is named here.
 * bubblewrap itself sets no_new_privs.
 *
 * Not `--as-pid-1`: a first process of a namespace cannot kill itself, and both kinds end that way.
 */
export function bubblewrapArguments(kind: Kind, { sockets, extra = [] }: Mounts): string[] {
  const readOnly = [...visibleFiles(kind), ...extra].flatMap(([outside, inside]) => ['--ro-bind', outside, inside]);
  const folder = sockets === undefined ? [] : [kind === 'engine' ? '--bind' : '--ro-bind', sockets, sockets];
  return [...NAMESPACES, ...NOBODY, ...ENDS_WITH_WORKER, ...readOnly, ...folder, ...PROC, ...DEVICES, ...SEALED];
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
