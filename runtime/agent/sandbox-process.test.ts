import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import type { Jail } from '../jail/index.ts';
import { prepareSandbox, type InvocationEnd, type SandboxProcess } from './sandbox-process.ts';

/** A sandbox that was broken into, as far as the agent sees: whatever it likes on its channel. */
const SCRIPT = `
const { Socket } = require('node:net');
const channel = new Socket({ fd: 3 });
const send = (message) => {
  const head = Buffer.from(JSON.stringify(message));
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32LE(head.length, 0);
  channel.write(Buffer.concat([prefix, head]));
};
channel.once('data', () => {
  send({ op: 'ready' });
  setTimeout(() => send({ op: 'done', id: 'call', ...JSON.parse(process.argv[1]) }), 100);
});
`;
const USAGE = { cpuMs: 1, wallMs: 2, models: [] };
const WIPE = { isolateDisposed: true, sandboxBytesOverwritten: 3, engineBytesOverwritten: 0 };

let socketDir: string;
beforeAll(() => void (socketDir = mkdtempSync(join(tmpdir(), 'cfn-agent-'))));
afterAll(() => rmSync(socketDir, { recursive: true, force: true }));

const noEgress = (): never => {
  throw new Error('there is no egress here');
};

async function start(done: object): Promise<SandboxProcess> {
  const jail: Jail = {
    layers: [],
    start: (_kind, { stdio }) => spawn(process.execPath, ['-e', SCRIPT, JSON.stringify(done)], { stdio }),
  };
  const prepared = prepareSandbox({ program: new Uint8Array(0), platform: '' }, { jail, socketDir, stderr: 'inherit' });
  const limits = { cpuMs: 1_000, wallMs: 1_000, memoryMb: 64 };
  return prepared.start({ limits, vars: {}, models: [], poolSize: 1, bundle: new Uint8Array(0) });
}
const request = { message: [new Uint8Array(1)], rest: undefined, wallMs: 1_000, egress: noEgress };
const noAnswer = async (): Promise<void> => undefined;

async function invoke(done: object): Promise<InvocationEnd> {
  const sandbox = await start(done);
  try {
    return await sandbox.invoke('call', request, noAnswer);
  } finally {
    sandbox.kill();
    await sandbox.ended;
  }
}

test('what a sandbox says of an invocation is taken', async () => {
  expect(await invoke({ usage: USAGE, wipe: WIPE })).toEqual({ usage: USAGE, wipe: WIPE });
});

test.each([
  ['text for a number', { usage: { ...USAGE, cpuMs: 'the request' }, wipe: WIPE }],
  ['a field of its own', { usage: USAGE, wipe: { ...WIPE, note: 'the request' } }],
  ['a negative number', { usage: { ...USAGE, wallMs: -1 }, wipe: WIPE }],
  ['nothing', {}],
])('INV-16 a sandbox that puts %s where the receipt is made is ended', async (_what, done) => {
  expect(await invoke(done)).toMatchObject({ code: 'CFN_SANDBOX_LOST', usage: { cpuMs: 0 } });
});

test('INV-11 one that ran out of memory is retired, and ends after its last invocation', async () => {
  const sandbox = await start({ code: 'CFN_LIMIT_MEMORY', usage: USAGE, wipe: WIPE });
  const other = sandbox.invoke('other', request, noAnswer);
  expect(await sandbox.invoke('call', request, noAnswer)).toMatchObject({ code: 'CFN_LIMIT_MEMORY' });
  await sandbox.retired;
  const stillThere = await Promise.race([
    sandbox.ended.then(() => false),
    new Promise((r) => setTimeout(r, 100, true)),
  ]);
  expect(stillThere).toBe(true);
  sandbox.kill();
  expect(await other).toMatchObject({ code: 'CFN_SANDBOX_LOST' });

  const alone = await start({ code: 'CFN_LIMIT_MEMORY', usage: USAGE, wipe: WIPE });
  await alone.invoke('call', request, noAnswer);
  await alone.ended;
});
