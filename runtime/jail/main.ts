import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import type { ProbeReport } from './probe.ts';

/** The probe: a process in the jail that tries what the jail is to refuse, and says what it saw on standard output. */
const outcome = (attempt: () => unknown): string => {
  try {
    attempt();
    return 'done';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'failed';
  }
};
const status = readFileSync('/proc/self/status', 'utf8');
const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '';

const listening = await new Promise<string>((resolve) => {
  const server = createServer()
    .once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'failed'))
    .listen(0, '127.0.0.1', () => server.close(() => resolve('done')));
});
const report: ProbeReport = {
  namespaces: Object.fromEntries(
    readdirSync('/proc/self/ns').map((name) => [name, readlinkSync(`/proc/self/ns/${name}`)]),
  ),
  processes: readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length,
  top: readdirSync('/'),
  mounts: readFileSync('/proc/self/mountinfo', 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [, , , , folder = '', options = ''] = line.split(' ');
      return { folder, readOnly: options.split(',').includes('ro') };
    }),
  writing: outcome(() => writeFileSync('/probe', '')),
  tuning: outcome(() => writeFileSync('/proc/self/oom_score_adj', '500')),
  listening,
  starting: outcome(() => {
    const { error } = spawnSync(process.execPath, ['--version']);
    if (error !== undefined) throw error;
  }),
  capabilities: field('CapEff'),
  noNewPrivileges: field('NoNewPrivs'),
  seccomp: field('Seccomp'),
};
writeSync(1, JSON.stringify(report));
