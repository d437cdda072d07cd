import { createServer, type RequestListener } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { toCfnError, toProblem } from '../proto/index.ts';
import { blobStoreContract, digestOf, inPieces, readAll } from './blob-store.contract.ts';
import { openBlobFolder } from '../gateway/blob-folder.ts';
import { httpBlobStore } from './http-blob-store.ts';

const TOKEN = 'token-of-the-test';
const cleanUp: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const step of cleanUp) await step();
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/blobs`;
}

/** A small server of the same routes as the gateway's, over its folder. `damaged` blobs are served with a bit flipped. */
async function blobServer(): Promise<{ url: string; damaged: Set<string> }> {
  const dir = await mkdtemp(join(tmpdir(), 'cfn-http-blobs-'));
  cleanUp.push(() => rm(dir, { recursive: true, force: true }));
  const store = await openBlobFolder(join(dir, 'blobs'), () => new Date());
  const damaged = new Set<string>();
  const url = await serve((request, response) => {
    void (async () => {
      const digest = request.url?.split('/').at(-1) ?? '';
      try {
        if (request.headers.authorization !== `Bearer ${TOKEN}`) return void response.writeHead(401).end();
        if (request.method === 'PUT') await store.put(digest, request);
        if (request.method === 'PATCH')
          await store.resume(digest, 'me', Number(request.headers['upload-offset']), request);
        const held = await store.get(digest);
        if (request.method === 'HEAD' && held === undefined)
          return void response.writeHead(404, { 'upload-offset': await store.begun(digest, 'me') }).end();
        if (request.method !== 'GET') return void response.end();
        if (held === undefined) return void response.writeHead(404).end();
        let first = damaged.has(digest);
        const pieces = Readable.from(held.stream()).map((piece: Uint8Array) => {
          const out = first ? piece.with(0, (piece[0] ?? 0) ^ 1) : piece;
          first = false;
          return out;
        });
        await pipeline(pieces, response);
      } catch (cause) {
        if (response.headersSent || response.destroyed) return void response.destroy();
        const problem = toProblem(toCfnError(cause));
        response.writeHead(problem.status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
      }
    })();
  });
  return { url, damaged };
}

describe('httpBlobStore', () => {
  blobStoreContract(async () => {
    const { url, damaged } = await blobServer();
    return { store: httpBlobStore({ url, token: TOKEN, fetch }), damage: async (digest) => void damaged.add(digest) };
  });

  const bytes = new Uint8Array(300_000).fill(7);
  const digest = digestOf(bytes);

  test('goes on where an upload broke off, and from the start when what is there is something else', async () => {
    const { url } = await blobServer();
    const store = httpBlobStore({ url, token: TOKEN, fetch });
    const big = new Uint8Array(40_000_000).map((_, i) => i % 251);
    const name = digestOf(big);
    const broken = (content: Uint8Array) =>
      async function* (offset: number): AsyncGenerator<Uint8Array> {
        yield* inPieces(content.subarray(offset, 30_000_000));
        throw new RangeError('source failed');
      };
    const asked: number[] = [];
    const whole = (offset: number): AsyncIterable<Uint8Array> => {
      asked.push(offset);
      return inPieces(big.subarray(offset), 1_000_000);
    };
    await expect(store.putFrom(name, broken(big))).rejects.toThrow('source failed');
    expect(await store.has(name)).toBe(false);
    await store.putFrom(name, whole);
    expect(asked.every((offset) => offset > 0)).toBe(true);
    await store.putFrom(name, () => inPieces(new Uint8Array())); // it is there
    expect((await readAll(await store.get(name))).equals(big)).toBe(true);

    const other = big.with(5, 1);
    const otherName = digestOf(other);
    await expect(store.putFrom(otherName, broken(big))).rejects.toThrow('source failed');
    const offsets: number[] = [];
    await store.putFrom(otherName, (offset) => {
      offsets.push(offset);
      return inPieces(other.subarray(offset));
    });
    expect(offsets[0]).toBeGreaterThan(0);
    expect(offsets.at(-1)).toBe(0);
    expect(await store.has(otherName)).toBe(true);
  });

  test('says that a token is refused', async () => {
    const { url } = await blobServer();
    const store = httpBlobStore({ url, token: 'other', fetch });
    await expect(store.get(digest)).rejects.toMatchObject({ code: 'CFN_TOKEN_INVALID' });
    await expect(store.has(digest)).rejects.toMatchObject({ code: 'CFN_TOKEN_INVALID' });
  });

  test('says that nobody answers', async () => {
    const store = httpBlobStore({ url: 'http://127.0.0.1:1/v1/blobs', token: TOKEN, fetch });
    await expect(store.has(digest)).rejects.toMatchObject({ code: 'CFN_BLOB_UNREACHABLE' });
    await expect(store.get(digest)).rejects.toMatchObject({ code: 'CFN_BLOB_UNREACHABLE' });
    await expect(store.put(digest, inPieces(bytes))).rejects.toMatchObject({ code: 'CFN_BLOB_UNREACHABLE' });
  });

  test('says that an answer broke off', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 1000), () => response.destroy());
    });
    await expect(httpBlobStore({ url, token: TOKEN, fetch }).get(digest).then(readAll)).rejects.toMatchObject({
      code: 'CFN_BLOB_UNREACHABLE',
    });
  });

  test('follows no redirect, and takes no other status for an answer', async () => {
    const moved = await serve((_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end());
    await expect(httpBlobStore({ url: moved, token: TOKEN, fetch }).get(digest)).rejects.toMatchObject({
      code: 'CFN_BLOB_UNREACHABLE',
    });
    const broken = await serve((_, response) => response.writeHead(500).end('<html>'));
    await expect(httpBlobStore({ url: broken, token: TOKEN, fetch }).get(digest)).rejects.toMatchObject({
      code: 'CFN_BLOB_UNREACHABLE',
    });
    await expect(httpBlobStore({ url: broken, token: TOKEN, fetch }).has(digest)).rejects.toMatchObject({
      code: 'CFN_BLOB_UNREACHABLE',
    });
  });
});
