import { mkdir } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { parseArgs } from 'node:util';
import { expect, test } from 'vitest';
import { CfnError } from './errors.ts';
import { startFailure } from './start-failure.ts';

async function reasonOf(start: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await start();
  } catch (cause) {
    const { code, message } = startFailure(cause);
    return { code, message };
  }
  throw new Error('it started');
}

async function listening(port: number): Promise<Server> {
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

test('a port that is taken is named', async () => {
  const taken = await listening(0);
  const { port } = taken.address() as AddressInfo;
  expect(await reasonOf(() => listening(port))).toEqual({
    code: 'CFN_USAGE',
    message: `cannot listen: listen EADDRINUSE: address already in use 127.0.0.1:${port}`,
  });
  taken.close();
});

test('a state folder that cannot be made is named', async () => {
  const folder = `${import.meta.filename}/state`;
  const { code, message } = await reasonOf(() => mkdir(folder, { recursive: true }));
  expect({ code, message }).toEqual({ code: 'CFN_STORE_FAILED', message: expect.stringContaining(folder) });
});

test('a flag that is none is named; errors of ours stay; of anything else nothing is said', async () => {
  expect(await reasonOf(() => parseArgs({ args: ['--nope'], options: {} }))).toMatchObject({ code: 'CFN_USAGE' });
  const ours = new CfnError('CFN_POLICY_INVALID', 'tee: missing');
  expect(startFailure(ours)).toBe(ours);
  expect(startFailure(new Error('secret'))).toMatchObject({ code: 'CFN_INTERNAL', message: 'internal error' });
});
