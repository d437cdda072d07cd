import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ENVIRONMENT, startChild } from '../runtime/agent/child-process.ts';
import { makeJail, type Jail } from '../runtime/jail/jail.ts';
import { openJail } from '../runtime/jail/index.ts';
import { median } from './measure.ts';
import type { Row } from './row.ts';

const ROUNDS = 30;

/** From starting a process to Node running in it, with the jail of this machine and without; taken in turns. */
export async function jail(): Promise<Row[]> {
  const here = await openJail();
  const none = makeJail({ bubblewrap: undefined, architecture: undefined, cgroups: undefined });
  const held = here.layers.filter(({ inForce }) => inForce).length;
  const rows: Row[] = [];
  const goal = '≤ 20 ms more';
  for (const [name, start] of [
    ['Node', startNode],
    ['an engine to its first answer', startEngine],
  ] as const) {
    const [jailed, bare]: [number[], number[]] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      jailed.push(await start(here));
      bare.push(await start(none));
    }
    const added = median(jailed.map((ms, i) => ms - (bare[i] ?? 0)));
    rows.push({
      row: `start of ${name}, jailed by ${held} of ${here.layers.length} layers, to bare`,
      unit: 'ms',
      ours: median(jailed),
      reference: median(bare),
      ratio: median(jailed.map((ms, i) => ms / (bare[i] ?? 1))),
      added,
      spread: [Math.min(...jailed), Math.max(...jailed)],
      goal,
      met: added <= 20,
    });
  }
  return rows;
}

async function startNode(where: Jail): Promise<number> {
  const began = performance.now();
  const child = where.start('sandbox', {
    env: ENVIRONMENT.sandbox,
    nodeFlags: ['--eval', 'process.exit()', '--'],
    stdio: ['ignore', 'ignore', 'ignore', 'ignore'],
  });
  await once(child, 'exit');
  return performance.now() - began;
}

async function startEngine(where: Jail): Promise<number> {
  const socketDir = mkdtempSync(join(tmpdir(), 'cfn-bench-'));
  const answered = Promise.withResolvers<void>();
  const began = performance.now();
  const child = startChild('engine', { jail: where, socketDir, stderr: 'ignore' }, () => answered.resolve());
  await child.channel.send({ op: 'hello' });
  await answered.promise;
  const took = performance.now() - began;
  child.kill();
  await child.ended;
  rmSync(socketDir, { recursive: true, force: true });
  return took;
}
