import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { root } from './local-system.ts';

/** What a newcomer runs first. */
test('npm run demo does the main job, step by step, and says what it is', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['scripts/demo.ts'], {
    cwd: root,
    env: { ...process.env, CI: 'true' },
  });
  expect(stdout, 'colours only on a terminal').not.toContain('\u001b');
  expect(stdout).toContain('SIMULATED: this machine has no TEE');
  const lines = ['30C', 'MACHINE WASH COLD', 'DO NOT BLEACH', 'IRON LOW HEAT', 'DRY CLEAN ANY', 'SOLVENT EXCEPT'];
  for (const line of [...lines, 'TRICHLOROETHYLENE', 'DRY FLAT']) expect(stdout).toContain(`   ${line}\n`);
  expect(stdout).toMatch(/\d+ checks passed: .*quote: signature.*binding: level/);
  expect(stdout).toContain('demo/text-detector@1 and demo/text-recogniser@1 on a simulated worker');
  expect(stdout).toMatch(/\d+ processes, \d+ MB, 0 hits/);
  expect(stdout).toMatch(/9\. Stop … \d/);
}, 180_000);
