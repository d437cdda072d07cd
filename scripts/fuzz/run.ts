import { CfnError } from '../../proto/index.ts';
import { mutate } from './mutate.ts';
import { seededRandom, type Random } from './random.ts';
import type { Parts, Seed, Target } from './target.ts';

/** Longest that one input may take, in ms. The slowest honest one takes about 20 ms; the rest is for a busy machine. */
export const INPUT_MS_MAX = 2000;
/** How far array buffers and heap may grow over the first figure, in bytes, before a leak or an unbounded allocation is reported. */
const GROWTH_BYTES_MAX = 512 * 1024 * 1024;
const MEMORY_EVERY = 64;

/** An input that a target did not stand. */
export class FuzzFinding extends Error {
  override readonly name = 'FuzzFinding';
  readonly parts: Parts;
  constructor(message: string, parts: Parts, options?: ErrorOptions) {
    super(message, options);
    this.parts = parts;
  }
}

export interface FuzzOptions {
  readonly seed: number;
  /** Asked before every execution. */
  readonly goOn: (executions: number) => boolean;
  readonly monotonicMs: () => number;
  /** Told which input comes next, so that one that never returns can be kept. */
  readonly onInput?: (parts: Parts) => void;
}

/**
 * Mutates the seeds of a target until told to stop. Gives the number of executions.
 *
 * @throws {FuzzFinding}
 */
export async function fuzz(target: Target, options: FuzzOptions): Promise<number> {
  const random = seededRandom(options.seed);
  const pool = target.seeds.flatMap(({ parts }) => Object.values(parts));
  const meanings = new Map<Seed, string | undefined>();
  for (const seed of target.seeds) meanings.set(seed, await execute(target, seed.parts, seed));
  const before = used();
  let executions = 0;
  while (options.goOn(executions)) {
    const seed = random.pick(target.seeds);
    const parts = mutatePart(seed.parts, random, pool);
    options.onInput?.(parts);
    const start = options.monotonicMs();
    const meaning = await execute(target, parts, seed);
    const took = options.monotonicMs() - start;
    if (took > INPUT_MS_MAX) throw new FuzzFinding(`${target.name}: an input took ${Math.round(took)} ms`, parts);
    if (meaning !== undefined && meaning !== meanings.get(seed))
      throw new FuzzFinding(`${target.name}: a mutation of ${seed.name} was accepted and means something else`, parts);
    executions++;
    if (executions % MEMORY_EVERY === 0 && used() - before > GROWTH_BYTES_MAX)
      throw new FuzzFinding(`${target.name}: memory grew by over ${GROWTH_BYTES_MAX} bytes`, parts);
  }
  return executions;
}

function mutatePart(parts: Parts, random: Random, pool: readonly Uint8Array[]): Parts {
  const name = random.pick(Object.keys(parts));
  return { ...parts, [name]: mutate(parts[name] ?? new Uint8Array(), random, pool) };
}

async function execute(target: Target, parts: Parts, seed: Seed): Promise<string | undefined> {
  try {
    return await target.run(parts, seed);
  } catch (error) {
    if (error instanceof CfnError) return undefined;
    throw new FuzzFinding(`${target.name}: ${String(error)}`, parts, { cause: error });
  }
}

function used(): number {
  const { heapUsed, arrayBuffers, external } = process.memoryUsage();
  return heapUsed + arrayBuffers + external;
}
