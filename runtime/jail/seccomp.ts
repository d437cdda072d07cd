import type { Group } from './allowed.ts';
import { and, assemble, DATA, give, jumpAtLeast, jumpEqual, loadWord, type Instruction } from './bpf.ts';
import { AUDIT_ARCH, syscallNumber, type Architecture } from './syscalls.ts';

/** What a filter answers (linux/seccomp.h); the low half of an error is its number. */
export const ACTION = {
  allow: 0x7fff_0000,
  killProcess: 0x8000_0000,
  eperm: 0x0005_0001,
  enosys: 0x0005_0026,
} as const;

/** Numbers from here on are the x32 ABI's: other calls in the clothes of x86_64. */
const X32 = 0x4000_0000;

/** A seccomp program that allows what the list names and refuses the rest. Calls of another architecture end the process. */
export function seccompProgram(list: readonly Group[], architecture: Architecture): Uint8Array {
  return assemble([
    loadWord(DATA.architecture),
    jumpEqual(AUDIT_ARCH[architecture], 1, 0),
    give(ACTION.killProcess),
    loadWord(DATA.number),
    jumpAtLeast(X32, 0, 1),
    give(ACTION.killProcess),
    ...list.flatMap((group) => forGroup(group, architecture)),
    give(ACTION.eperm),
  ]);
}

/** Each call is a block of its own that is skipped as a whole, so that no jump is long. */
function forGroup(group: Group, architecture: Architecture): Instruction[] {
  const verdict = decide(group);
  return group.calls.flatMap((name) => {
    const number = syscallNumber(name, architecture);
    return number === undefined ? [] : [jumpEqual(number, 0, verdict.length), ...verdict];
  });
}

function decide({ when, absent }: Group): Instruction[] {
  if (absent === true) return [give(ACTION.enosys)];
  if (when === undefined) return [give(ACTION.allow)];
  const { argument, mask, oneOf, wide } = when;
  const refuse = give(ACTION.eperm);
  return [
    ...(wide === true ? [loadWord(DATA.argument(argument, 'high')), jumpEqual(0, 1, 0), refuse] : []),
    loadWord(DATA.argument(argument, 'low')),
    ...(mask === undefined ? [] : [and(mask)]),
    ...oneOf.map((value, i) => jumpEqual(value, oneOf.length - i, 0)),
    refuse,
    give(ACTION.allow),
  ];
}
