import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { kernelFiles, type KernelFiles } from './files.ts';
import { rtmr3 } from './rtmr.ts';
import { errno } from './tsm.testkit.ts';

const zeros = new Uint8Array(48);
const digest = new Uint8Array(48).fill(7);
const sha384 = (...parts: Uint8Array[]): Uint8Array => {
  const hash = createHash('sha384');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

let folder: string;
let measurements: string;
let rtmrEntries: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cfn-rtmr-'));
  measurements = join(folder, 'measurements');
  rtmrEntries = join(folder, 'rtmrs');
});
afterEach(() => rm(folder, { recursive: true }));

/** Files that extend as the kernel's do: what is written is hashed into what they hold; anything but 48 bytes is EINVAL. */
const registers: KernelFiles = {
  ...kernelFiles,
  async make(entry) {
    await kernelFiles.make(entry);
    await writeFile(join(entry, 'index'), '');
    await writeFile(join(entry, 'digest'), zeros);
  },
  async write(file, bytes) {
    if (file.endsWith('index')) return writeFile(file, `${new TextDecoder().decode(bytes)}\n`);
    if (bytes.length !== 48) throw errno('EINVAL');
    const before = (await kernelFiles.read(file, 48)) ?? zeros;
    await kernelFiles.write(file, bytes);
    await writeFile(file, sha384(before, bytes));
  },
};
const open = (files: KernelFiles = registers) => rtmr3({ measurements, rtmrEntries, files });

async function sysfs(): Promise<void> {
  await mkdir(measurements);
  for (const index of [0, 1, 2, 3]) await writeFile(join(measurements, `rtmr${index}:sha384`), zeros);
}

describe('extend', () => {
  test('hashes the digest into RTMR3 and no other, and gives the new value', async () => {
    await sysfs();
    const register = open();
    const once = sha384(zeros, digest);
    expect(await register.extend(digest)).toEqual(once);
    expect(await register.extend(zeros)).toEqual(sha384(once, zeros));
    expect(await register.read()).toEqual(sha384(once, zeros));
    for (const index of [0, 1, 2])
      expect(await kernelFiles.read(join(measurements, `rtmr${index}:sha384`), 48)).toEqual(zeros);
  });

  test('is done in turn', async () => {
    await sysfs();
    const register = open();
    const digests = [1, 2, 3, 4].map((byte) => new Uint8Array(48).fill(byte));
    await Promise.all(digests.map((it) => register.extend(it)));
    expect(await register.read()).toEqual(digests.reduce<Uint8Array>((value, it) => sha384(value, it), zeros));
  });

  test.each([0, 32, 47, 49])('takes no digest of %i bytes', async (length) => {
    await sysfs();
    await expect(open().extend(new Uint8Array(length))).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    expect(await open().read()).toEqual(zeros);
  });

  test('refuses when the register then holds something else', async () => {
    await sysfs();
    const others: KernelFiles = {
      ...registers,
      write: async (file, bytes) => (await registers.write(file, zeros), await registers.write(file, bytes)),
    };
    await expect(open(others).extend(digest)).rejects.toMatchObject({ reason: 'collect/rtmr-mismatch' });
    const ignoring: KernelFiles = { ...registers, write: () => Promise.resolve() };
    await expect(open(ignoring).extend(digest)).rejects.toMatchObject({
      code: 'CFN_MEASUREMENT_UNKNOWN',
      reason: 'collect/rtmr-mismatch',
    });
  });

  test.each([
    ['EACCES', 'collect/rtmr-read-only'],
    ['EPERM', 'collect/rtmr-read-only'],
    ['EINVAL', 'collect/rtmr-absent'],
  ])('a register that answers %s is %s', async (code, reason) => {
    await sysfs();
    const files = { ...registers, write: () => Promise.reject(errno(code)) };
    await expect(open(files).extend(digest)).rejects.toMatchObject({ reason });
  });
});

describe('without the files of Linux 6.16', () => {
  test('the older interface is used, and its one entry made once', async () => {
    await mkdir(rtmrEntries);
    await registers.make(join(rtmrEntries, 'theirs'));
    await registers.write(join(rtmrEntries, 'theirs', 'index'), new TextEncoder().encode('2'));
    expect(await open().extend(digest)).toEqual(sha384(zeros, digest));
    expect(await open().extend(digest)).toEqual(sha384(sha384(zeros, digest), digest));
    expect(await readdir(rtmrEntries)).toHaveLength(2);
  });

  test('there is no register outside of TDX', async () => {
    await expect(open().extend(digest)).rejects.toMatchObject({
      code: 'CFN_TEE_ABSENT',
      reason: 'collect/rtmr-absent',
    });
    await expect(open().read()).rejects.toMatchObject({ reason: 'collect/rtmr-absent' });
  });

  test('an entry that cannot be made is no register', async () => {
    await mkdir(rtmrEntries);
    const files = { ...registers, make: () => Promise.reject(errno('EBUSY')) };
    await expect(open(files).extend(digest)).rejects.toMatchObject({ reason: 'collect/rtmr-absent' });
  });
});

test.each([47, 49])('a register of %i bytes is none', async (length) => {
  await sysfs();
  await writeFile(join(measurements, 'rtmr3:sha384'), new Uint8Array(length));
  await expect(open().read()).rejects.toMatchObject({ reason: 'collect/rtmr-absent' });
});
