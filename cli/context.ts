import type { Output } from './output.ts';

/** Where text and bytes go; a terminal says so. */
export interface Sink {
  write(data: string | Uint8Array): unknown;
  readonly isTTY?: boolean;
}

/** All that a command takes from the process it runs in. */
export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdin: AsyncIterable<Uint8Array>;
  /** Asks on the terminal, where stdin is one; what is typed is not shown. */
  readonly promptHidden?: ((question: string) => Promise<string>) | undefined;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly fetch: typeof globalThis.fetch;
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array<ArrayBuffer>;
  /** Aborted when the user asks the program to end. */
  readonly ended: AbortSignal;
}

/** One run of `cfn`. */
export interface Cli {
  readonly context: Context;
  readonly output: Output;
  /** Exit code when nothing is thrown; a command that ends like its child sets it. */
  exitCode: number;
}
