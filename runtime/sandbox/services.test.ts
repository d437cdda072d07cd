import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moduleOf, startTestSandbox, type TestSandbox } from './testing.ts';

// What functions do with the services of their process; the services by themselves are in `services/desk.test.ts`.

let sandbox: TestSandbox;
beforeAll(async () => {
  const handlers = {
    '/pbkdf2': `async () => {
      const key = await crypto.subtle.importKey('raw', new Uint8Array(16), 'PBKDF2', false, ['deriveBits']);
      await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(16), iterations: 2 ** 31 }, key, 256);
      return new Response('done');
    }`,
    '/bomb': `async (request) => {
      const reader = request.body.pipeThrough(new DecompressionStream('gzip')).getReader();
      let total = 0;
      for (;;) { const { done, value } = await reader.read(); if (done) return new Response(String(total)); total += value.length; }
    }`,
    '/many': `async () => {
      const digests = await Promise.all(Array.from({ length: 2000 }, () => crypto.subtle.digest('SHA-256', new Uint8Array(8))));
      return new Response(String(digests.length));
    }`,
    '/slots': `async () => {
      const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt']);
      const seen = [];
      for (let at = key; at !== null; at = Object.getPrototypeOf(at)) seen.push(...Reflect.ownKeys(at).map(String));
      const refused = await crypto.subtle.exportKey('raw', key).catch((error) => error.name);
      const forged = await crypto.subtle.exportKey('raw', Object.create(CryptoKey.prototype)).catch((error) => error.name);
      return Response.json({ seen: seen.filter((name) => /slot|info|handle|#/.test(name)), refused, forged });
    }`,
    '/form': `async (request) => {
      const form = await request.formData();
      const file = form.get('file');
      return Response.json([form.get('text'), file.name, file.type, await file.text()]);
    }`,
    '/console': `() => { console.log('x'); console.table([{ a: 1 }]); return new Response(navigator.userAgent); }`,
    '/': `() => new Response('fine')`,
  };
  sandbox = await startTestSandbox(moduleOf(handlers), { limits: { cpuMs: 2_000, memoryMb: 64 } });
});
afterAll(async () => {
  expect((await sandbox.call()).body).toBe('fine'); // the process has survived it all
  await sandbox.close();
});

test('work that would pass the CPU limit ends the invocation, and is not begun', async () => {
  const { done } = await sandbox.call({ path: '/pbkdf2' });
  expect(done.code).toBe('CFN_LIMIT_CPU');
  expect(done.usage.wallMs).toBeLessThan(10_000);
});

test('a bomb flows through in bounded memory', async () => {
  const answer = await sandbox.call({
    path: '/bomb',
    method: 'POST',
    body: Uint8Array.from(gzipSync(Buffer.alloc(40_000_000))),
  });
  expect(answer.done.code).toBeUndefined();
  expect(answer.body).toBe('40000000');
});

test('more calls than the process takes at once wait in the isolate', async () => {
  expect((await sandbox.call({ path: '/many' })).body).toBe('2000');
});

test('a key shows nothing of where it is, and cannot be forged', async () => {
  const { body } = await sandbox.call({ path: '/slots' });
  expect(JSON.parse(body)).toEqual({ seen: [], refused: 'InvalidAccessError', forged: 'TypeError' });
});

test('multipart forms are read', async () => {
  const form = new FormData();
  form.append('text', 'a "b"\nü');
  form.append('file', new File(['content'], 'näme.txt', { type: 'text/x' }));
  const request = new Request('https://a.example', { method: 'POST', body: form });
  const headers = [['content-type', request.headers.get('content-type') ?? '']] as const;
  const body = new Uint8Array(await request.arrayBuffer());
  const answer = await sandbox.call({ path: '/form', method: 'POST', headers, body });
  expect(JSON.parse(answer.body)).toEqual(['a "b"\r\nü', 'näme.txt', 'text/x', 'content']);
});

test('what is not a form is refused', async () => {
  const headers = [['content-type', 'multipart/form-data; boundary=x']] as const;
  for (const body of ['', '--x', '--x\r\n\r\n\r\n--x--', '--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--'])
    expect((await sandbox.call({ path: '/form', method: 'POST', headers, body })).done.code).toBe('CFN_FUNCTION_THREW');
});

test('console and navigator say nothing', async () => {
  expect((await sandbox.call({ path: '/console' })).body).toBe('cfn');
});
