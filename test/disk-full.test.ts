import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startKms } from '../kms/test-kms.ts';

/** A file system of our own is the one honest full disk. Mounting it takes user namespaces. */
const MOUNT = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"';
const canMount = spawnSync('unshare', ['-Urm', 'sh', '-c', MOUNT, tmpdir(), 'true']).status === 0;
const skip = !canMount && process.env['CI'] === undefined;

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'cfn-full-'))));
afterEach(() => rmSync(folder, { recursive: true }));

async function onSmallDisk(what: string): Promise<unknown> {
  const [disk, policy] = [join(folder, 'disk'), join(folder, 'policy.json')];
  mkdirSync(disk);
  writeFileSync(policy, JSON.stringify((await startKms()).policy));
  const script = fileURLToPath(new URL('disk-full.testkit.ts', import.meta.url));
  const command = ['-Urm', 'sh', '-c', MOUNT, disk, process.execPath, script, what, disk, policy];
  const child = spawn('unshare', command, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, errors] = ['', ''];
  child.stdout.on('data', (text) => (out += String(text)));
  child.stderr.on('data', (text) => (errors += String(text)));
  await new Promise((resolve) => child.on('close', resolve));
  if (out === '') throw new Error(errors);
  return JSON.parse(out);
}

test.skipIf(skip)(
  'the gateway’s blobs on a full disk: refused by code, nothing half-written, nothing lost',
  async () => {
    expect(await onSmallDisk('blobs')).toEqual({
      outcomes: ['stored', 'CFN_STORE_FAILED', 'CFN_STORE_FAILED'],
      whole: true,
      served: null,
      begun: 0,
      left: [],
      after: 'stored',
    });
  },
);

test.skipIf(skip)(
  'INV-14 a KMS on a full disk: refused by code, and nothing acknowledged is lost',
  { timeout: 120_000 },
  async () => {
    expect(await onSmallDisk('keyring')).toEqual({
      refusals: ['500 CFN_STORE_FAILED'],
      readable: true,
      some: true,
      lost: 0,
      unasked: 0,
      after: 200,
    });
  },
);
