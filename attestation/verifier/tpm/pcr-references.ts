import { toHex } from '../../../proto/index.ts';
import type { Hash } from '../../evidence/algorithms.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { PcrValues } from '../../evidence/tpm.ts';
import type { Findings } from '../findings.ts';

/** Reference values of one register. Banks of SHA-1 have none: its collisions are practical. */
export interface PcrReference {
  readonly hash: Hash;
  readonly index: number;
  /** Lower-case hexadecimal; any one of them is accepted, so an empty list accepts nothing. */
  readonly accepted: readonly string[];
}

/** Compares registers that a quote covers with reference values; one that the quote does not cover is refused. */
export async function appraisePcrs(
  pcrs: PcrValues,
  references: readonly PcrReference[],
  findings: Findings,
): Promise<void> {
  for (const { hash, index, accepted } of references) {
    await findings.check(`TPM PCR ${index} (${hash})`, () => {
      const value = pcrs.get(hash)?.get(index);
      if (value === undefined)
        refuse('policy/measurement', `the TPM quote does not cover PCR ${index} of bank ${hash}`);
      if (!accepted.includes(toHex(value)))
        refuse('policy/measurement', `PCR ${index} is ${toHex(value)}, which is not a reference value`);
    });
  }
}
