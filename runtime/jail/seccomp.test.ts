import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ALLOWED } from './allowed.ts';
import { assemble, CODE, give, jumpEqual } from './bpf.ts';
import { ACTION, seccompProgram } from './seccomp.ts';
import { AUDIT_ARCH, SYSCALLS, syscallNumber, type Architecture, type Syscall } from './syscalls.ts';

interface Call {
  readonly architecture: number;
  readonly number: number;
  readonly arguments?: readonly bigint[];
}

/** What the kernel would answer: a small machine of our own for the few instructions there are. */
function run(program: Uint8Array, call: Call): number {
  const code = new DataView(program.buffer);
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call.number, true);
  data.setUint32(4, call.architecture, true);
  (call.arguments ?? []).forEach((value, i) => data.setBigUint64(16 + 8 * i, value, true));
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const constant = code.getUint32(at * 8 + 4, true);
    const jump = (condition: boolean): number => code.getUint8(at * 8 + (condition ? 2 : 3));
    switch (code.getUint16(at * 8, true)) {
      case CODE.loadWord:
        accumulator = data.getUint32(constant, true);
        break;
      case CODE.and:
        accumulator = (accumulator & constant) >>> 0;
        break;
      case CODE.jumpEqual:
        at += jump(accumulator === constant);
        break;
      case CODE.jumpAtLeast:
        at += jump(accumulator >= constant);
        break;
      case CODE.return:
        return constant;
      default:
        throw new Error(`unknown instruction at ${at}`);
    }
  }
}

const MACHINES = ['x64', 'arm64'] as const;
const KINDS = ['sandbox', 'engine'] as const;

describe.each(MACHINES.flatMap((machine) => KINDS.map((kind) => [kind, machine] as const)))(
  'INV-16 the filter of the %s on %s',
  (kind, machine: Architecture) => {
    const program = seccompProgram(ALLOWED[kind], machine);
    const answer = (name: Syscall, ...values: readonly (number | bigint)[]): number =>
      run(program, {
        architecture: AUDIT_ARCH[machine],
        number: syscallNumber(name, machine) ?? -1,
        arguments: values.map(BigInt),
      });

    test('allows nothing that the list does not name', () => {
      const named = new Set(ALLOWED[kind].flatMap(({ calls }) => calls.map((name) => syscallNumber(name, machine))));
      for (let number = 0; number < 1024; number++) {
        const answered = run(program, { architecture: AUDIT_ARCH[machine], number });
        if (!named.has(number)) expect(answered, `call ${number}`).toBe(ACTION.eperm);
      }
    });

    test('ends a process that calls in another architecture or by x32 numbers', () => {
      fc.assert(
        fc.property(fc.nat(0xffff_ffff), fc.nat(600), (architecture, number) => {
          fc.pre(architecture !== AUDIT_ARCH[machine]);
          expect(run(program, { architecture, number })).toBe(ACTION.killProcess);
        }),
      );
      expect(run(program, { architecture: AUDIT_ARCH[machine], number: 0x4000_0000 })).toBe(ACTION.killProcess);
    });

    test('threads, but no process and no namespace', () => {
      const thread = 0x3d_0f00;
      expect(answer('clone', thread)).toBe(ACTION.allow);
      expect(answer('clone', 17)).toBe(ACTION.eperm);
      for (const flag of [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000])
        expect(answer('clone', thread | flag)).toBe(ACTION.eperm);
      expect(answer('clone3')).toBe(ACTION.enosys);
    });

    test('Unix sockets and no other', () => {
      expect(answer('socket', 1)).toBe(ACTION.allow);
      for (let family = 0; family < 64; family++) if (family !== 1) expect(answer('socket', family)).toBe(ACTION.eperm);
      // The kernel takes an int: the high half does not count for it, nor for us.
      expect(answer('socket', (1n << 32n) | 2n)).toBe(ACTION.eperm);
    });

    test('files are opened to be read', () => {
      expect(answer('openat', 0, 0, 0o2000000)).toBe(ACTION.allow); // O_CLOEXEC
      for (const flag of [0o1, 0o2, 0o3, 0o100, 0o1000, 0o20200000])
        // O_WRONLY, O_RDWR, both, O_CREAT, O_TRUNC, O_TMPFILE
        expect(answer('openat', 0, 0, flag)).toBe(ACTION.eperm);
    });

    test('limits are read and not set, also where the pointer has only high bits', () => {
      expect(answer('prlimit64', 0, 7, 0, 4096)).toBe(ACTION.allow);
      expect(answer('prlimit64', 0, 7, 4096)).toBe(ACTION.eperm);
      expect(answer('prlimit64', 0, 7, 1n << 32n)).toBe(ACTION.eperm);
    });

    test('no typing into a terminal', () => {
      expect(answer('ioctl', 0, 0x5401)).toBe(ACTION.allow);
      expect(answer('ioctl', 0, 0x5412)).toBe(ACTION.eperm); // TIOCSTI
    });

    test(kind === 'sandbox' ? 'it connects and does not listen' : 'it listens and does not connect', () => {
      const [does, doesNot] = kind === 'sandbox' ? (['connect', 'listen'] as const) : (['listen', 'connect'] as const);
      expect(answer(does)).toBe(ACTION.allow);
      expect(answer(doesNot)).toBe(ACTION.eperm);
    });
  },
);

test('the program fits what the kernel takes, and a jump past the end is refused', () => {
  for (const machine of MACHINES)
    for (const kind of KINDS) expect(seccompProgram(ALLOWED[kind], machine).length).toBeLessThanOrEqual(4096 * 8);
  expect(() => assemble([jumpEqual(1, 1, 0), give(ACTION.allow)])).toThrow(RangeError);
  expect(() => assemble(Array.from({ length: 4097 }, () => give(ACTION.allow)))).toThrow(RangeError);
});

test('no call is named by two groups, of which the second would never be asked', () => {
  for (const kind of KINDS) {
    const names = ALLOWED[kind].flatMap(({ calls }) => calls);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  }
});

test('every number in the table is used', () => {
  const used = new Set<string>(KINDS.flatMap((kind) => ALLOWED[kind].flatMap(({ calls }) => calls)));
  expect(Object.keys(SYSCALLS).filter((name) => !used.has(name))).toEqual([]);
});
