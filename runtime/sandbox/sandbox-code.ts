import { stop } from 'esbuild';
import { buildPlatformSource } from './platform-source.ts';
import { buildSandboxProgram } from './program-source.ts';

/** What sandboxes are made of; built once by the worker. It is our code only; nothing of a function is in it. */
export interface SandboxCode {
  /** Of the process, for `loader.cjs`. */
  readonly program: Uint8Array;
  /** The web platform, for every isolate. */
  readonly platform: string;
}

export async function buildSandboxCode(): Promise<SandboxCode> {
  try {
    const [program, platform] = await Promise.all([buildSandboxProgram(), buildPlatformSource()]);
    return { program, platform };
  } finally {
    await stop();
  }
}
