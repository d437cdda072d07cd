import { createColors } from 'picocolors';
import { expect, test } from 'vitest';
import type { InputsAppraisal } from '../attestation/verifier/index.ts';
import { appraisalLines } from './appraisal-report.ts';

test('what evidence says is one line, without colours of its own', () => {
  const text = 'x\n\u001b[32mACCEPTED\u001b[0m\r\u2028y';
  const appraisal = {
    accepted: false,
    findings: [{ check: `chain of ${text}`, outcome: 'failed', reason: 'certificate/wrong-product', detail: text }],
    claims: { simulated: false, gpus: [{ device: text }] },
    binding: undefined,
    inputs: [],
  } as unknown as InputsAppraisal;
  const facts = { policy: '00', policyName: 'p', now: new Date(0), nowGiven: true };
  const lines = appraisalLines(appraisal, facts, createColors(false));
  expect(lines[0]).toBe('REFUSED');
  // oxlint-disable-next-line no-control-regex -- there must be none
  for (const line of lines) expect(line).not.toMatch(/[\u0000-\u001f\u2028]/);
  expect(lines.at(-1)).toBe('      device: x\uFFFD\uFFFD[32mACCEPTED\uFFFD[0m\uFFFD\uFFFDy');
});
