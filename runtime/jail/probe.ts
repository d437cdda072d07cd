import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { findBubblewrap } from './bubblewrap.ts';
import { openCgroups, type Cgroups } from './cgroup.ts';
import { visibleFiles } from './files.ts';
import { makeJail, type Jail, type Parts } from './jail.ts';
import { LAYERS, type Layer, type LayerName } from './layers.ts';

/** What the process in the jail saw and tried; outcomes are `done` or an error code. */
export interface ProbeReport {
  readonly namespaces: Readonly<Record<string, string>>;
  readonly processes: number;
  readonly top: readonly string[];
  readonly mounts: readonly { readonly folder: string; readonly readOnly: boolean }[];
  readonly writing: string;
  readonly tuning: string;
  readonly listening: string;
  readonly starting: string;
  readonly capabilities: string;
  readonly noNewPrivileges: string;
  readonly seccomp: string;
}

/** Where the tools are; a test takes them away. */
export interface Machine {
  readonly bubblewrap: string | undefined;
  readonly cgroups: Cgroups | undefined;
}

export function thisMachine(): Machine {
  const files = { proc: '/proc', pid: process.pid, kill: (pid: number) => void process.kill(pid, 'SIGKILL') };
  return { bubblewrap: findBubblewrap(), cgroups: openCgroups(files) };
}

/** Starts a small process under each layer, sees what holds, and makes the jail of what does. */
export async function openJail({ bubblewrap, cgroups }: Machine = thisMachine()): Promise<Jail> {
  const architecture = process.arch === 'x64' || process.arch === 'arm64' ? process.arch : undefined;
  const look = (parts: Parts): Promise<Seen> => runProbe(makeJail(parts));
  const [open, filtered, memory, tasks] = await Promise.all([
    // Without the filter, so that each of the other layers is seen to hold by itself.
    bubblewrap === undefined ? undefined : look({ bubblewrap, cgroups: undefined, architecture: undefined }),
    bubblewrap === undefined || architecture === undefined ? undefined : look({ bubblewrap, cgroups, architecture }),
    tryMemory(cgroups),
    tryTasks(cgroups),
  ]);
  const confined = [namespaces, fileSystem, privileges].map((judge) => judge(open));
  const layers = [...confined, systemCalls(open, filtered), memory, tasks];
  const works = (seen: Seen | undefined): boolean => typeof seen === 'object';
  const parts: Parts = {
    bubblewrap: works(open) ? bubblewrap : undefined,
    architecture: works(filtered) ? architecture : undefined,
    cgroups,
  };
  return makeJail(
    parts,
    LAYERS.flatMap((name) => layers.filter((layer) => layer.name === name)),
  );
}

/** A report, or why there is none. */
type Seen = ProbeReport | string;

const INSTALL = 'Install bubblewrap: `apt-get install bubblewrap`.';
const ALLOW_NAMESPACES =
  'Allow user namespaces: `sysctl user.max_user_namespaces=10000`, and where these exist, `sysctl kernel.unprivileged_userns_clone=1` and `kernel.apparmor_restrict_unprivileged_userns=0`. A container needs an unmasked /proc as well.';
const ALLOW_SECCOMP = 'Run on x86-64 or arm64, with a kernel that has CONFIG_SECCOMP_FILTER.';
const DELEGATE =
  'Give the worker a control group that it may divide: run it as root in its VM, or under systemd with `Delegate=yes` and `DelegateSubgroup=worker`.';
const NO_GROUP = 'no control group can be made';

function namespaces(seen: Seen | undefined): Layer {
  return judge('namespaces', seen, ({ namespaces: theirs, processes }) => {
    const shared = ['user', 'pid', 'net', 'mnt', 'ipc', 'uts', 'cgroup'].filter(
      (name) => theirs[name] === undefined || theirs[name] === readlinkSync(`/proc/self/ns/${name}`),
    );
    if (shared.length > 0) return `shares ${shared.join(', ')} with the worker`;
    return processes > 2 ? `${processes} processes are visible inside` : undefined;
  });
}

function fileSystem(seen: Seen | undefined): Layer {
  const known = new Set(['dev', 'proc', ...visibleFiles('probe').map(([, inside]) => inside.split('/')[1] ?? '')]);
  return judge('file system', seen, ({ top, mounts, writing, tuning }) => {
    const foreign = top.filter((name) => !known.has(name));
    if (foreign.length > 0) return `/${foreign.join(', /')} is visible inside`;
    const open = mounts.filter(({ folder, readOnly }) => !readOnly && folder !== '/dev/null');
    if (open.length > 0) return `${open.map(({ folder }) => folder).join(', ')} can be written to`;
    const refused = [writing, tuning].every((outcome) => outcome === 'EROFS');
    return refused ? undefined : `writing came to ${writing}, tuning the kernel to ${tuning}`;
  });
}

function privileges(seen: Seen | undefined): Layer {
  return judge('privileges', seen, ({ capabilities, noNewPrivileges }) => {
    if (!/^0+$/.test(capabilities)) return `it has capabilities ${capabilities}`;
    return noNewPrivileges === '1' ? undefined : 'it can gain privileges';
  });
}

function systemCalls(open: Seen | undefined, filtered: Seen | undefined): Layer {
  const name = 'system calls';
  if (typeof open !== 'object') return judge(name, open, () => undefined);
  if (typeof filtered !== 'object')
    return { name, inForce: false, detail: filtered ?? `no list for ${process.arch}`, remedy: ALLOW_SECCOMP };
  const { seccomp, listening, starting, writing } = filtered;
  const refused = [listening, starting, writing].every((outcome) => outcome === 'EPERM') && open.starting === 'done';
  if (seccomp === '2' && refused) return { name, inForce: true, detail: 'seccomp' };
  const detail = `listening came to ${listening}, starting a process to ${starting}, writing to ${writing}`;
  return { name, inForce: false, detail, remedy: ALLOW_SECCOMP };
}

/** @param mistake what does not hold, in words */
function judge(name: LayerName, seen: Seen | undefined, mistake: (report: ProbeReport) => string | undefined): Layer {
  if (seen === undefined) return { name, inForce: false, detail: 'bubblewrap is not installed', remedy: INSTALL };
  const wrong = typeof seen === 'string' ? seen : mistake(seen);
  return wrong === undefined
    ? { name, inForce: true, detail: 'bubblewrap' }
    : { name, inForce: false, detail: wrong, remedy: ALLOW_NAMESPACES };
}

const PROBE_MS_MAX = 30_000;

async function runProbe(jail: Jail): Promise<Seen> {
  const child = jail.start('probe', { env: {}, stdio: ['ignore', 'pipe', 'pipe', 'ignore'] });
  const { output, errors } = await collect(child);
  try {
    return JSON.parse(output) as ProbeReport;
  } catch {
    return errors.trim().split('\n').pop() || 'the process in the jail said nothing';
  }
}

/** More than the bound, in one process that holds it all: `tail` keeps what it may have to print. */
const TRIAL_BYTES = 64 * 1024 * 1024;
const ALLOCATES = `head -c ${TRIAL_BYTES} /dev/zero | tail -c ${TRIAL_BYTES} | wc -c`;
const TRIAL = { memoryBytes: 24 * 1024 * 1024, tasks: 8 };

async function tryMemory(cgroups: Cgroups | undefined): Promise<Layer> {
  const name = 'memory bound';
  const held = ({ output }: Collected): boolean => output.trim() !== '' && Number(output) < TRIAL_BYTES;
  if (cgroups?.resources.includes('memory') !== true)
    return { name, inForce: false, detail: NO_GROUP, remedy: DELEGATE };
  if (held(await inGroup(cgroups, ALLOCATES)))
    return { name, inForce: true, detail: `cgroup v${cgroups.version}, memory` };
  return { name, inForce: false, detail: 'a process could take more than its bound', remedy: DELEGATE };
}

/** Shells that each wait for the next: more at once than the bound. */
const STARTS =
  'echo joined; f() { if [ "$1" -gt 0 ]; then ( f $(($1 - 1)); exit $? ); else echo unbounded; fi; }; f 16';

async function tryTasks(cgroups: Cgroups | undefined): Promise<Layer> {
  const name = 'task bound';
  if (cgroups?.resources.includes('pids') !== true) return { name, inForce: false, detail: NO_GROUP, remedy: DELEGATE };
  const { output } = await inGroup(cgroups, STARTS);
  return output.trim() === 'joined'
    ? { name, inForce: true, detail: `cgroup v${cgroups.version}, pids` }
    : { name, inForce: false, detail: 'a process could start more than its bound', remedy: DELEGATE };
}

async function inGroup(cgroups: Cgroups, script: string): Promise<Collected> {
  const group = cgroups.make(TRIAL);
  const join = group.joinFiles.map((file) => `echo $$ > '${file}'`).join(' && ');
  const seen = await shell(`${join} && { ${script}; }`);
  await group.remove();
  return seen;
}

function shell(script: string): Promise<Collected> {
  return collect(
    spawn('/bin/sh', ['-c', script], { env: { PATH: '/usr/bin:/bin' }, stdio: ['ignore', 'pipe', 'pipe'] }),
  );
}

interface Collected {
  readonly output: string;
  readonly errors: string;
}

async function collect(child: ReturnType<Jail['start']>): Promise<Collected> {
  const timer = setTimeout(() => child.kill('SIGKILL'), PROBE_MS_MAX);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', () => resolve(''));
  });
  const [output, errors, failure] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  clearTimeout(timer);
  return { output, errors: errors + failure };
}

async function text(stream: Readable | null): Promise<string> {
  let all = '';
  try {
    for await (const piece of stream ?? []) all += String(piece);
  } catch {
    // cut off: what came is what there is
  }
  return all;
}
