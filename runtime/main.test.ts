import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const main = fileURLToPath(new URL('./main.ts', import.meta.url));
const file = fileURLToPath(import.meta.url);
const worker = (...flags: string[]) =>
  spawnSync(
    process.execPath,
    [main, '--gateway-certificate', file, '--blobs', 'http://127.0.0.1:9', '--blobs-token-file', file, ...flags],
    { encoding: 'utf8' },
  );

describe('a production worker', () => {
  test.each([[[]], [['--gpu', 'maybe']]])('has to be told whether it has a GPU: %j', (flags) => {
    const { status, stderr } = worker(...flags);
    expect(stderr).toContain('CFN_USAGE');
    expect(status).toBe(2);
  });

  test.skipIf(existsSync('/sys/kernel/config/tsm/report')).each(['none', 'required'])(
    'does not start outside of a TEE, --gpu %s',
    (gpu) => {
      const { status, stdout, stderr } = worker('--gpu', gpu);
      expect(stderr).toContain('CFN_TEE_ABSENT');
      expect(stdout).toBe('');
      expect(status).toBe(4);
    },
  );
});
