import { equalBytes, fromHex, toHex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import { bindingLevel, requireLevel, type BindingLevel } from '../binding.ts';
import { teekitBinding, tinfoilBinding, trustAuthorityBinding, type ReportDataBinding } from '../report-data.ts';
import type { InputsAppraisal, Part } from './appraise-inputs.ts';
import type { AppraisedDevices } from './devices.ts';
import type { AppraisedTee } from './tees.ts';

/**
 * Compares report data with what the inputs say it is over, states how CPU and GPU evidence hang together, and holds that against the
 * policy.
 */
export async function checkBinding(
  part: Part,
  tees: readonly AppraisedTee[],
  devices: AppraisedDevices | undefined,
): Promise<InputsAppraisal['binding']> {
  const { findings, policy } = part;
  const reported = devices === undefined ? [] : [...devices.verification.gpus, ...devices.verification.switches];
  const level = await levelOf(
    part,
    tees,
    reported.map(({ report }) => report.nonce),
  );
  const least = policy.binding;
  if (typeof least === 'object') findings.skip('binding: level', least.notRequired);
  else await findings.check('binding: level', () => requireLevel(level.level, least));
  return tees.length > 0 && reported.length > 0 ? level : undefined;
}

interface Level {
  readonly level: BindingLevel;
  readonly detail: string;
}

async function levelOf(part: Part, tees: readonly AppraisedTee[], gpuNonces: readonly Uint8Array[]): Promise<Level> {
  const { findings, nonce } = part;
  const none = { level: 'none', detail: 'no scheme ties the parts together' } as const;
  const [tee, second] = tees;
  if (tee === undefined) return none;
  const bound = await schemeOf(part);
  if (bound !== undefined && second === undefined) {
    const { binding, gpuNonce } = bound;
    const level = await bindingLevel({ reportData: tee.reportData, expected: binding, gpuNonce, gpuNonces }, findings);
    return { level, detail: binding.scheme };
  }
  if ('notChecked' in nonce) {
    findings.skip('binding: report data', 'the inputs do not say what it is over');
    return none;
  }
  const isBound = await findings.check('binding: report data', () => {
    for (const { reportData } of tees) requireNonce(reportData, nonce);
  });
  const together = isBound && gpuNonces.length > 0 && gpuNonces.every((reported) => equalBytes(reported, nonce));
  return together ? { level: 'same-nonce', detail: 'report data and GPU reports hold the same nonce' } : none;
}

/** What the inputs say that report data is over: a capture's own values, or a note's. */
async function schemeOf({
  gathered,
  nonce,
  findings,
}: Part): Promise<{ binding: ReportDataBinding; gpuNonce: Uint8Array } | undefined> {
  const [capture] = gathered.captures;
  if (capture !== undefined) {
    const own = capture.nonce;
    if (capture.switchText !== undefined)
      findings.skip('switches of the capture', 'only the digest of their evidence is compared');
    if (!('notChecked' in nonce)) await findings.check('nonce', () => requireEqual(own, nonce));
    return { binding: await tinfoilBinding(capture, own), gpuNonce: own };
  }
  const [note] = gathered.notes;
  const value = (name: string): Uint8Array | undefined => {
    const text = note?.get(name);
    return text === undefined || text.length % 2 !== 0 ? undefined : fromHex(text);
  };
  const [noted, key] = [value('NONCE'), value('X25519_KEY')];
  const [itaNonce, issuedAt] = [value('ITA_NONCE'), value('ITA_ISSUED_AT')];
  const stated = noted ?? itaNonce;
  if (stated === undefined) return undefined;
  if (!('notChecked' in nonce)) await findings.check('nonce', () => requireEqual(stated, nonce));
  if (noted !== undefined && key !== undefined) return { binding: await teekitBinding(noted, key), gpuNonce: noted };
  if (itaNonce === undefined || issuedAt === undefined) return undefined;
  const binding = await trustAuthorityBinding(
    { value: itaNonce, issuedAt },
    value('ITA_RUNTIME_DATA') ?? new Uint8Array(),
  );
  return { binding, gpuNonce: itaNonce };
}

function requireEqual(stated: Uint8Array, nonce: Uint8Array): void {
  if (!equalBytes(stated, nonce))
    refuse('binding/nonce-mismatch', `the evidence answers ${toHex(stated)}, not the expected nonce`);
}

/** Without a scheme, report data has to be the nonce itself: at the start with zeros behind, or in the second half. */
function requireNonce(reportData: Uint8Array, nonce: Uint8Array): void {
  const begins = equalBytes(reportData.subarray(0, nonce.length), nonce);
  const zeros = reportData.subarray(nonce.length).every((byte) => byte === 0);
  const second = nonce.length === 32 && equalBytes(reportData.subarray(32), nonce);
  if (nonce.length === 0 || !((begins && zeros) || second))
    refuse('binding/nonce-mismatch', `report data ${toHex(reportData)} does not hold the expected nonce`);
}
