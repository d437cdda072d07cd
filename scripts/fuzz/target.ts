/** Bytes by name; one of them at a time is mutated. */
export type Parts = Readonly<Record<string, Uint8Array>>;

/** A valid input to start from. */
export interface Seed {
  readonly name: string;
  readonly parts: Parts;
}

/**
 * What is fuzzed. `run` refuses by throwing a CfnError or by giving nothing; anything else that it throws is a finding. What it accepts
 * it says in a text: a mutation that is accepted and means something else than the seed is a finding, too.
 */
export interface Target {
  readonly name: string;
  readonly seeds: readonly Seed[];
  readonly run: (parts: Parts, seed: Seed) => Promise<string | undefined> | string | undefined;
}
