import type { InputsAppraisal } from '../attestation/verifier/index.ts';
import type { Output } from './output.ts';

/** Under what an appraisal was made. */
export interface AppraisalFacts {
  /** Digest of the policy. */
  readonly policy: string;
  readonly policyName: string;
  readonly now: Date;
  /** Whether the user gave the instant, or it is the present. */
  readonly nowGiven: boolean;
}

const DETAIL_CHARACTERS = 240;

/** A table for people: every check with its outcome, then what was not checked, then the claims. */
export function appraisalLines(
  { accepted, findings: found, claims, binding, inputs }: InputsAppraisal,
  { policy, policyName, now, nowGiven }: AppraisalFacts,
  colors: Output['colors'],
): string[] {
  // Names of checks name certificates.
  const findings = found.map((finding) => ({ ...finding, check: oneLine(finding.check) }));
  const width = Math.max(5, ...findings.map(({ check }) => check.length));
  const row = (check: string, outcome: string, detail = ''): string =>
    `  ${check.padEnd(width)}  ${outcome.padEnd(7)}  ${detail}`.trimEnd();
  const simulated = claims.simulated ? ['SIMULATED: no hardware vouches for this evidence'] : [];
  return [
    accepted ? colors.green('ACCEPTED') : colors.red('REFUSED'),
    ...simulated,
    `policy ${policyName} (${policy}), at ${now.toISOString()}${nowGiven ? '' : ' (now)'}`,
    `inputs: ${inputs.join(', ')}`,
    '',
    row('check', 'outcome'),
    ...findings.flatMap((finding) => {
      if (finding.outcome === 'passed') return [row(finding.check, colors.green('passed '))];
      if (finding.outcome === 'failed')
        return [row(finding.check, colors.red('FAILED '), `${finding.reason}: ${short(finding.detail)}`)];
      return [];
    }),
    '',
    'NOT checked, and why:',
    ...findings.flatMap((finding) =>
      finding.outcome === 'skipped' ? [`  ${finding.check.padEnd(width)}  ${short(finding.detail)}`] : [],
    ),
    '',
    ...(binding === undefined ? [] : [`binding of CPU and GPU: ${binding.level} (${binding.detail})`]),
    accepted ? 'claims:' : 'claims, which nothing proves, as the evidence was refused:',
    ...claimLines(claims, '  '),
  ];
}

/** The same for programs. */
export function appraisalJson(
  { accepted, findings, claims, binding, inputs }: InputsAppraisal,
  { policy, now }: AppraisalFacts,
): object {
  return { accepted, policy, now: now.toISOString(), inputs, findings, binding, claims };
}

function claimLines(value: unknown, indent: string): string[] {
  if (typeof value !== 'object' || value === null) return [`${indent}${short(String(value))}`];
  return Object.entries(value).flatMap(([name, member]: [string, unknown]) => {
    if (member === undefined || (Array.isArray(member) && member.length === 0)) return [];
    if (typeof member === 'object' && member !== null)
      return [`${indent}${name}:`, ...claimLines(member, `${indent}  `)];
    return [`${indent}${name}: ${short(typeof member === 'string' ? member : JSON.stringify(member))}`];
  });
}

/** What evidence says must not look like a line of ours. */
function oneLine(text: string): string {
  return text.replaceAll(CONTROL, '\uFFFD');
}

function short(text: string): string {
  const line = oneLine(text);
  return line.length > DETAIL_CHARACTERS ? `${line.slice(0, DETAIL_CHARACTERS)}…` : line;
}
// eslint-disable-next-line no-control-regex -- finding them is the point
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
