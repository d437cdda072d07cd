import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SYSCALLS } from './syscalls.ts';

/** Debian's linux-libc-dev, which comes with a C compiler, has both: x86_64's own numbers, and those of all newer machines. */
const X64 = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h';
const GENERIC = '/usr/include/asm-generic/unistd.h';

function numbers(file: string): Map<string, number> {
  const lines = readFileSync(file, 'utf8').matchAll(/^#define __NR(?:3264)?_(\w+) (\d+)$/gm);
  return new Map([...lines].map(([, name = '', number]) => [name, Number(number)]));
}

test.skipIf(!existsSync(X64))('x86_64 numbers are the kernel’s (needs its headers)', () => {
  const known = numbers(X64);
  for (const [name, [number]] of Object.entries(SYSCALLS)) expect([name, number]).toEqual([name, known.get(name)]);
});

test.skipIf(!existsSync(GENERIC))('aarch64 numbers are the kernel’s (needs its headers)', () => {
  const known = numbers(GENERIC);
  known.set('newfstatat', known.get('fstatat') ?? -1); // its name on 64-bit machines
  for (const [name, [, number]] of Object.entries(SYSCALLS)) {
    if (number !== undefined) expect([name, number]).toEqual([name, known.get(name)]);
  }
});
