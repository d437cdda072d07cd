import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findBubblewrap } from './bubblewrap.ts';
import { openJail, thisMachine } from './probe.ts';

/** A layer is in force when a process under it has shown it: here are jails that only look like one. */
let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), 'cfn-probe-'))));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function inForce(bubblewrap: string | undefined): Promise<string[]> {
  const { layers } = await openJail({ bubblewrap, cgroups: undefined });
  for (const layer of layers) expect(layer.inForce || layer.remedy !== undefined).toBe(true);
  return layers.filter((layer) => layer.inForce).map(({ name }) => name);
}
function fakeBubblewrap(script: string): string {
  const file = join(dir, 'bwrap');
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

test('no bubblewrap and no control groups: nothing is in force, and each layer has a remedy', async () => {
  expect(await inForce(undefined)).toEqual([]);
});

test('a bubblewrap that fails is none', async () => {
  expect(await inForce(fakeBubblewrap('echo "bwrap: No permissions to create new namespace" >&2; exit 1'))).toEqual([]);
});

test('a bubblewrap that confines nothing is found out', async () => {
  const main = new URL('main.ts', import.meta.url).pathname;
  expect(await inForce(fakeBubblewrap(`exec ${process.execPath} ${main}`))).toEqual([]);
});

test.skipIf(findBubblewrap() === undefined)('one that leaves a layer out is found out (needs bubblewrap)', async () => {
  const real = findBubblewrap() ?? '';
  const without = (option: string): Promise<string[]> =>
    inForce(fakeBubblewrap(`for a; do shift; [ "$a" = "${option}" ] || set -- "$@" "$a"; done; exec ${real} "$@"`));
  expect(await without('--unshare-net')).not.toContain('namespaces');
  expect(await without('--unshare-net')).toContain('file system');
  expect(await without('--unshare-uts')).not.toContain('namespaces');
});

test('this machine’s control groups bound memory and tasks, or the layer is said to be missing', async () => {
  const { cgroups } = thisMachine();
  const { layers } = await openJail({ bubblewrap: undefined, cgroups });
  for (const [name, resource] of [
    ['memory bound', 'memory'],
    ['task bound', 'pids'],
  ] as const) {
    const layer = layers.find((each) => each.name === name);
    expect(layer?.inForce).toBe(cgroups?.resources.includes(resource) === true);
  }
});
