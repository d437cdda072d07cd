import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { OVERWRITE_FREED } from './overwrite-freed.ts';

const SCRIPT = `
  import { demandOverwriteFreed } from ${JSON.stringify(new URL('./overwrite-freed.ts', import.meta.url).href)};
  demandOverwriteFreed();
  const { env, argv, execArgv } = process;
  console.log(JSON.stringify({ env, args: argv.slice(2), execArgv }));
`;
const started = (env: Record<string, string>) =>
  JSON.parse(
    spawnSync(process.execPath, ['--no-node-snapshot', '--input-type=module', '--eval', SCRIPT, 'one', 'two'], {
      encoding: 'utf8',
      env,
    }).stdout,
  ) as { env: Record<string, string>; args: string[]; execArgv: string[] };

test.each([{}, { MALLOC_PERTURB_: '0' }, { ...OVERWRITE_FREED, GLIBC_TUNABLES: 'glibc.malloc.tcache_count=7' }])(
  'a worker started with %j runs with freed heap overwritten, its flags and arguments as they were',
  (env) => {
    const { env: own, args, execArgv } = started({ ...env, KEPT: 'yes' });
    expect(own).toMatchObject({ ...OVERWRITE_FREED, KEPT: 'yes' });
    expect(args.slice(-1)).toEqual(['two']);
    expect(execArgv).toContain('--no-node-snapshot');
  },
);
