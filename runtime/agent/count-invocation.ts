import type { InvocationCount } from './held-lease.ts';

/**
 * Counts one invocation under every lease of a function, or under none.
 *
 * @returns call it when the invocation is over
 * @throws {CfnError} `CFN_ALLOWANCE_WAITING`, `CFN_ALLOWANCE_SPENT` when an owner's grant has no more
 */
export async function countInvocation(counts: readonly InvocationCount[]): Promise<() => void> {
  // Whoever waited looks at all again: nothing is awaited between the last look and the counting.
  for (let lacking = counts.find((count) => !count.has()); lacking; lacking = counts.find((count) => !count.has()))
    await lacking.more();
  const begun = counts.map((count) => count.begin());
  return () => begun.forEach((over) => over());
}
