import type { webcrypto } from 'node:crypto';

/**
 * CPU time of operations, in ms, as a slow machine takes it; measured on one with AES and SHA instructions and rounded up. It is charged before
 * the operation, so what matters is that none takes much longer.
 */
export const CALL_MS = 0.05;
export const BYTE_MS = 1e-5;
const CURVE_MS = 1;
const PBKDF2_ITERATION_MS = 1e-3;
const HASH_BYTES: Readonly<Record<string, number>> = { 'SHA-1': 20, 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 };

/** Work with a key of this algorithm, on top of that for the bytes. */
export function keyCostMs(algorithm: webcrypto.KeyAlgorithm, isPrivate: boolean): number {
  if ('modulusLength' in algorithm) return (isPrivate ? 2 : 0.2) * (Number(algorithm.modulusLength) / 2048) ** 3;
  if ('namedCurve' in algorithm || /^(Ed|X)\d/.test(algorithm.name)) return CURVE_MS;
  return 0;
}

/** Primes are searched for: the mean. */
export const rsaGenerateCostMs = (modulusBits: number): number => 100 * (modulusBits / 2048) ** 4;

/** RFC 8018 §5.2: each block of output takes all iterations. */
export function pbkdf2CostMs(hash: string, iterations: number, outputBits: number): number {
  return iterations * Math.ceil(outputBits / 8 / (HASH_BYTES[hash] ?? 1)) * PBKDF2_ITERATION_MS;
}
