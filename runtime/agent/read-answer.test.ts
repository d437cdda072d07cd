import { gzipSync } from 'node:zlib';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { readAnswer } from './read-answer.ts';

const refuse = (max: number): Error => new Error(`over ${max}`);

test('reads what is short enough', async () => {
  expect(new TextDecoder().decode(await readAnswer(new Response('1234'), 4, refuse))).toBe('1234');
  expect(await readAnswer(new Response(null), 4, refuse)).toHaveLength(0);
});

test('counts what comes out of a packed answer, and stops there', async () => {
  await expect(readAnswer(new Response('12345'), 4, refuse)).rejects.toThrow('over 4');
  const packed = gzipSync(Buffer.alloc(50_000_000));
  const server = createServer((_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const before = process.memoryUsage().arrayBuffers;
    await expect(readAnswer(answer, 1000, refuse)).rejects.toThrow('over 1000');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
