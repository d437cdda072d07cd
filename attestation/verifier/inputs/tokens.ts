import { fromHex } from '../../../proto/index.ts';
import { parseNrasAnswer } from '../../evidence/nras.ts';
import { appraiseToken, checkSameDevices } from '../appraisal/token.ts';
import { Findings, type Finding } from '../findings.ts';
import type { NrasClaims } from '../tokens/nras.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Part } from './appraise-inputs.ts';
import type { AppraisedDevices } from './devices.ts';

/** NVIDIA's judgements. A policy that asks for one refuses where there is none. */
export async function appraiseTokens(part: Part, devices: AppraisedDevices | undefined): Promise<NrasClaims[]> {
  const { gathered, policy, findings, now } = part;
  const { token } = policy;
  if ('notRequired' in token) {
    findings.skip('NRAS token', token.notRequired);
    return [];
  }
  if (gathered.nras.length === 0)
    await findings.check('NRAS token', () => refuse('collateral/missing', 'there is no answer of NRAS'));
  const local = devices === undefined ? [] : [...devices.verification.gpus, ...devices.verification.switches];
  const claims: NrasClaims[] = [];
  for (const answer of gathered.nras) {
    const { nonce, given } = nonceFor(part, answer, devices);
    const own = new Findings();
    claims.push(await appraiseToken({ answer, jwks: gathered.jwks, nonce, policy: token, now }, own));
    findings.add(given ? own.list : own.list.map(withoutNonce));
  }
  if (claims.length > 0) await checkSameDevices(claims, local, findings);
  return claims;
}

/** The relying party's nonce; else the one that the reports at hand answer; else the token's own, which proves nothing. */
function nonceFor(
  { nonce, gathered: { captures } }: Part,
  answer: string,
  devices: AppraisedDevices | undefined,
): { nonce: Uint8Array; given: boolean } {
  if (!('notChecked' in nonce)) return { nonce, given: true };
  const [device] = [...(devices?.verification.gpus ?? []), ...(devices?.verification.switches ?? [])];
  const reported = captures[0]?.nonce ?? device?.report.nonce;
  if (reported !== undefined) return { nonce: reported, given: true };
  const own = parseNrasAnswer(answer).overall.claims['eat_nonce'];
  const isHex = typeof own === 'string' && /^(?:[0-9a-fA-F]{2})+$/.test(own);
  return { nonce: isHex ? fromHex(own.toLowerCase()) : new Uint8Array(), given: false };
}

function withoutNonce(finding: Finding): Finding {
  return finding.outcome === 'passed' && finding.check.endsWith(': nonce')
    ? { check: finding.check, outcome: 'skipped', detail: 'no nonce was given; the tokens answer the same one' }
    : finding;
}
