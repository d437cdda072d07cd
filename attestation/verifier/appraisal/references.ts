import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import { isNotChecked, type References } from '../policy/common.ts';

/** Compares a measurement with reference values. The message shows it, as it is public; `undefined` is in no list. */
export async function checkReferences(
  name: string,
  value: string | undefined,
  references: References,
  findings: Findings,
): Promise<void> {
  if (isNotChecked(references)) return findings.skip(name, references.notChecked);
  await findings.check(name, () => {
    if (value === undefined || !references.includes(value))
      refuse('policy/measurement', `${name} ${value ?? 'absent'} is not a reference value`);
  });
}
