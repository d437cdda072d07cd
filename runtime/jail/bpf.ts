/**
 * An assembler for the classic BPF that seccomp(2) runs: one accumulator, forward jumps, 32-bit words of `struct seccomp_data`
 * (linux/seccomp.h, linux/filter.h). Eight bytes an instruction: u16 code, u8 jump if true, u8 jump if false, u32 constant.
 */
export interface Instruction {
  readonly code: number;
  /** Instructions to skip when the comparison holds, and when it does not; 0 to 255. */
  readonly ifTrue: number;
  readonly ifFalse: number;
  readonly constant: number;
}

export const CODE = { loadWord: 0x20, and: 0x54, jumpEqual: 0x15, jumpAtLeast: 0x35, return: 0x06 } as const;

/** Offsets into `struct seccomp_data`, in bytes; both machines are little endian. */
export const DATA = {
  number: 0,
  architecture: 4,
  argument: (index: number, half: 'low' | 'high') => 16 + 8 * index + (half === 'low' ? 0 : 4),
} as const;

const instruction = (code: number, constant: number, ifTrue = 0, ifFalse = 0): Instruction => ({
  code,
  constant: constant >>> 0,
  ifTrue,
  ifFalse,
});
export const loadWord = (offset: number): Instruction => instruction(CODE.loadWord, offset);
export const and = (mask: number): Instruction => instruction(CODE.and, mask);
export const jumpEqual = (constant: number, ifTrue: number, ifFalse: number): Instruction =>
  instruction(CODE.jumpEqual, constant, ifTrue, ifFalse);
export const jumpAtLeast = (constant: number, ifTrue: number, ifFalse: number): Instruction =>
  instruction(CODE.jumpAtLeast, constant, ifTrue, ifFalse);
export const give = (action: number): Instruction => instruction(CODE.return, action);

/** BPF_MAXINSNS of the kernel. */
const INSTRUCTIONS_MAX = 4096;

/** The program as the kernel takes it. */
export function assemble(program: readonly Instruction[]): Uint8Array {
  if (program.length > INSTRUCTIONS_MAX)
    throw new RangeError(`${program.length} instructions, over ${INSTRUCTIONS_MAX}`);
  const bytes = new DataView(new ArrayBuffer(program.length * 8));
  for (const [i, { code, ifTrue, ifFalse, constant }] of program.entries()) {
    const furthest = Math.max(ifTrue, ifFalse);
    if (furthest > 0 && (furthest > 255 || i + 1 + furthest >= program.length))
      throw new RangeError(`instruction ${i} jumps too far`);
    bytes.setUint16(i * 8, code, true);
    bytes.setUint8(i * 8 + 2, ifTrue);
    bytes.setUint8(i * 8 + 3, ifFalse);
    bytes.setUint32(i * 8 + 4, constant, true);
  }
  return new Uint8Array(bytes.buffer);
}
