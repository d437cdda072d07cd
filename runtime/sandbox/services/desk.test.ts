import { createPublicKey, randomBytes } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Output } from './compression.ts';
import type { KeyInfo } from './cryptography.ts';
import { serviceDesk, type ServiceDesk } from './desk.ts';
import { Refusal } from './service.ts';

/** A desk whose invocation has so much CPU time, in ms. */
function deskWith(cpuMs = 1_000): { desk: ServiceDesk; charged: () => number } {
  let charged = 0;
  const desk = serviceDesk((ms) => {
    charged += ms;
    if (charged > cpuMs) throw new Refusal('OperationError', 'the CPU time is used up');
  });
  return { desk, charged: () => charged };
}
async function ask<T>(desk: ServiceDesk, service: string, request: unknown): Promise<T> {
  const answer = await desk.call(service, request);
  if ('refusal' in answer) throw answer.refusal;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the test knows what it asked
  return answer.value as T;
}
const bytes = (length = 16): ArrayBuffer => Uint8Array.from(randomBytes(length)).buffer;
const crypt = <T>(desk: ServiceDesk, request: object): Promise<T> => ask<T>(desk, 'cryptography', request);
const press = <T>(desk: ServiceDesk, request: object): Promise<T> => ask<T>(desk, 'compression', request);

describe('what an isolate sends', () => {
  const refused: readonly (readonly [string, string, unknown])[] = [
    ['no service', 'process', {}],
    ['a name of every object', 'constructor', {}],
    ['nothing', 'cryptography', undefined],
    ['no operation', 'cryptography', { op: 'eval' }],
    ['a member too many', 'cryptography', { op: 'digest', hash: 'SHA-256', data: bytes(), more: 1 }],
    ['a member too few', 'cryptography', { op: 'digest', hash: 'SHA-256' }],
    ['another hash', 'cryptography', { op: 'digest', hash: 'MD5', data: bytes() }],
    ['a string for bytes', 'cryptography', { op: 'digest', hash: 'SHA-256', data: 'abc' }],
    ['a key that is not there', 'cryptography', { op: 'export', key: 1, format: 'raw' }],
    ['a key by another name', 'cryptography', { op: 'export', key: '__proto__', format: 'raw' }],
    ['a stream that is not there', 'compression', { op: 'read', id: 7 }],
    ['another format', 'compression', { op: 'open', format: 'zip', decompress: true }],
  ];
  test.each(refused)('is refused: %s', async (_, service, request) => {
    await expect(ask(deskWith().desk, service, request)).rejects.toBeInstanceOf(Refusal);
  });

  test('is overwritten once it is answered, or refused', async () => {
    const { desk } = deskWith();
    const [good, bad] = [bytes(), bytes()];
    await crypt(desk, { op: 'digest', hash: 'SHA-256', data: good });
    await expect(crypt(desk, { op: 'digest', hash: 'MD5', data: bad })).rejects.toThrow();
    expect([...new Uint8Array(good), ...new Uint8Array(bad)].every((byte) => byte === 0)).toBe(true);
    expect(desk.bytesOverwritten).toBe(32);
  });

  test('waits within bounds', async () => {
    const { desk } = deskWith();
    const many = await Promise.all(
      Array.from({ length: 300 }, () => desk.call('cryptography', { op: 'digest', hash: 'SHA-1', data: bytes(1) })),
    );
    expect(many.filter((answer) => 'refusal' in answer)).toHaveLength(300 - 256);
    const large = { op: 'digest', hash: 'SHA-1', data: new ArrayBuffer(65 * 1024 * 1024) };
    await expect(crypt(desk, large)).rejects.toMatchObject({ name: 'QuotaExceededError' });
  });

  test('comes to nothing after the end', async () => {
    const { desk } = deskWith();
    const key = await crypt<KeyInfo>(desk, { op: 'generate', algorithm: { name: 'AES-GCM', length: 256 } });
    desk.close();
    await expect(crypt(desk, { op: 'export', key: key.key, format: 'raw' })).rejects.toThrow('over');
  });
});

describe('costly operations', () => {
  test('PBKDF2 is charged before it begins', async () => {
    const { desk } = deskWith();
    const request = { op: 'import', format: 'raw', algorithm: { name: 'PBKDF2' }, isPublic: false, data: bytes() };
    const { key } = await crypt<KeyInfo>(desk, request);
    const params = { name: 'PBKDF2', hash: 'SHA-256', salt: bytes(), iterations: 2 ** 31 };
    await expect(crypt(desk, { op: 'derive', key, params, length: 256 })).rejects.toThrow('CPU time');
    const fine = { ...params, salt: bytes(), iterations: 1000 };
    await expect(deskWith().desk.call('cryptography', { op: 'digest' })).resolves.toHaveProperty('refusal');
    const other = deskWith();
    const again = await crypt<KeyInfo>(other.desk, { ...request, data: bytes() });
    expect(await crypt<ArrayBuffer>(other.desk, { op: 'derive', key: again.key, params: fine, length: 256 })).toHaveProperty('byteLength', 32); // prettier-ignore
    expect(other.charged()).toBeGreaterThan(1);
  });

  test('RSA keys have a largest size', async () => {
    const { desk } = deskWith(100_000);
    const algorithm = { name: 'RSA-PSS', hash: 'SHA-256', publicExponent: Uint8Array.of(1, 0, 1).buffer };
    const huge = { op: 'generate', algorithm: { ...algorithm, modulusLength: 16_384 } };
    await expect(crypt(desk, huge)).rejects.toBeInstanceOf(Refusal);
    const odd = { op: 'generate', algorithm: { ...algorithm, modulusLength: 2048, publicExponent: bytes(64) } };
    await expect(crypt(desk, odd)).rejects.toBeInstanceOf(Refusal);
    const modulus = randomBytes(1024);
    modulus[0] = 0xff;
    const jwk = { kty: 'RSA', n: modulus.toString('base64url'), e: 'AQAB' };
    const spki = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'der' });
    const request = { op: 'import', format: 'spki', algorithm: { name: 'RSA-PSS', hash: 'SHA-256' }, isPublic: true };
    await expect(crypt(desk, { ...request, data: Uint8Array.from(spki).buffer })).rejects.toMatchObject({
      name: 'NotSupportedError',
    });
  });
});

describe('compression', () => {
  async function readAll(desk: ServiceDesk, id: number, first: object): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let output = await press<Output>(desk, { ...first, id });
    for (;;) {
      pieces.push(Buffer.from(output.data));
      if (!output.more) return Buffer.concat(pieces);
      output = await press<Output>(desk, { op: 'read', id });
    }
  }

  test('gives what zlib gives', async () => {
    const { desk } = deskWith();
    const text = randomBytes(300_000).toString('hex');
    const id = await press<number>(desk, { op: 'open', format: 'gzip', decompress: false });
    const head = await readAll(desk, id, { op: 'write', data: Uint8Array.from(Buffer.from(text)).buffer });
    const tail = await readAll(desk, id, { op: 'end' });
    expect(gunzipSync(Buffer.concat([head, tail])).toString()).toBe(text);
  });

  test('a bomb comes out in pieces, each paid for, until nothing is left to pay with', async () => {
    const bomb = Uint8Array.from(gzipSync(Buffer.alloc(100 * 1024 * 1024))).buffer;
    const { desk, charged } = deskWith(50);
    const id = await press<number>(desk, { op: 'open', format: 'gzip', decompress: true });
    let largest = 0;
    let total = 0;
    async function drink(): Promise<void> {
      let output = await press<Output>(desk, { op: 'write', id, data: bomb });
      while (output.more) {
        largest = Math.max(largest, output.data.byteLength);
        total += output.data.byteLength;
        output = await press<Output>(desk, { op: 'read', id });
      }
    }
    await expect(drink()).rejects.toThrow('CPU time');
    expect(largest).toBeLessThanOrEqual(64 * 1024);
    expect(total).toBeLessThan(10 * 1024 * 1024);
    expect(charged()).toBeGreaterThan(50);
    desk.close();
  });

  test('refuses more streams than there is room for, and a piece before the last is used up', async () => {
    const { desk } = deskWith();
    const open = { op: 'open', format: 'deflate', decompress: true };
    for (let i = 0; i < 32; i++) await press<number>(desk, open);
    await expect(press(desk, open)).rejects.toMatchObject({ name: 'QuotaExceededError' });
    await press(desk, { op: 'drop', id: 1 });
    const id = await press<number>(desk, { ...open, format: 'gzip' });
    const data = Uint8Array.from(gzipSync(Buffer.alloc(1024 * 1024))).buffer;
    expect(await press<Output>(desk, { op: 'write', id, data })).toMatchObject({ more: true });
    await expect(press(desk, { op: 'write', id, data: bytes() })).rejects.toThrow('more to read');
    desk.close();
  });

  test.each([
    ['not gzip', Buffer.from('hello')],
    ['cut short', gzipSync('hello').subarray(0, 15)],
    ['something after it', Buffer.concat([gzipSync('hello'), Buffer.from('x')])],
  ])('refuses data that is %s', async (_, input) => {
    const { desk } = deskWith();
    const id = await press<number>(desk, { op: 'open', format: 'gzip', decompress: true });
    async function run(): Promise<void> {
      await readAll(desk, id, { op: 'write', data: Uint8Array.from(input).buffer });
      await readAll(desk, id, { op: 'end' });
    }
    await expect(run()).rejects.toMatchObject({ name: 'TypeError' });
    desk.close();
  });
});
