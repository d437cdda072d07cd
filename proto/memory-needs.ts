import type { SignedManifest } from './manifest.ts';
import { parseModelPackage } from './model-package.ts';

const MiB = 1024 * 1024;
/** Node, the snapshot and V8's own heap of one sandbox, in bytes; measured with `bench -- runtime`, rounded up. */
const SANDBOX_BASE_BYTES = 96 * MiB;
/** An engine without a model, in bytes. */
const ENGINE_BASE_BYTES = 96 * MiB;
/** Weights once opened, what ONNX Runtime makes of them, and tensors of calls, by byte of the package. A guess. */
const ENGINE_FACTOR = 1.5;

/**
 * What a function version that runs takes of a worker's memory, in bytes, guessed before it runs: the gateway looks for a worker with room, and
 * the worker keeps to its budget, by the same guess. Functions share a model's engine.
 */
export interface MemoryNeeds {
  readonly sandbox: number;
  /** By digest. */
  readonly models: ReadonlyMap<string, number>;
}

/** A package that does not parse counts nothing: it is refused where it is to be loaded. */
export async function memoryNeeds(
  { manifest }: SignedManifest,
  modelManifests: readonly Uint8Array[],
): Promise<MemoryNeeds> {
  const models = new Map<string, number>();
  for (const [i, { digest }] of manifest.models.entries()) {
    const parsed = await parseModelPackage(modelManifests[i] ?? new Uint8Array(), digest).catch(() => undefined);
    const bytes = (parsed?.files ?? []).reduce((sum, file) => sum + file.bytes, 0);
    models.set(digest, Math.ceil(ENGINE_BASE_BYTES + bytes * ENGINE_FACTOR));
  }
  return { sandbox: SANDBOX_BASE_BYTES + manifest.limits.memoryMb * MiB, models };
}

/** What they take together. */
export function neededBytes(all: readonly MemoryNeeds[]): number {
  const models = new Map(all.flatMap((needs) => [...needs.models]));
  const sandboxes = all.reduce((sum, { sandbox }) => sum + sandbox, 0);
  return [...models.values()].reduce((sum, bytes) => sum + bytes, sandboxes);
}
