import { parseJwks } from '../../evidence/jwks.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import type { VerifiedDevice } from '../nvidia/verify.ts';
import type { TokenPolicy } from '../policy/services.ts';
import { requireSameGpu } from '../tokens/same-gpu.ts';
import type { TokenKeys } from '../tokens/keys.ts';
import { verifyNras, type NrasClaims } from '../tokens/nras.ts';
import { NRAS_INTERMEDIATES } from '../trust-anchors.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';

export interface TokenInput {
  /** NRAS's answer, as it came. */
  readonly answer: string;
  /** Key sets that came with it. */
  readonly jwks: readonly string[];
  readonly nonce: Uint8Array;
  readonly policy: TokenPolicy;
  /** Devices whose reports are at hand: the token must be about the same ones. */
  readonly devices: readonly VerifiedDevice<GpuReport | SwitchReport>[];
  readonly now: Date;
}

/** Verifies NVIDIA's judgement, and that it is about the GPUs at hand. */
export async function appraiseToken(input: TokenInput, findings: Findings): Promise<NrasClaims> {
  const { answer, jwks, nonce, policy, devices, now } = input;
  const claims = await verifyNras({ answer, keys: keysOf(policy, jwks), nonce, now, issuer: policy.issuer }, findings);
  if (typeof policy.keys === 'object' && 'supplied' in policy.keys)
    findings.skip('NRAS keys: who vouches for them', policy.keys.supplied);
  if (devices.length === 0) {
    findings.skip('NRAS devices: same as in the reports', 'there is no GPU report to compare with');
    return claims;
  }
  await findings.check('NRAS devices: same as in the reports', () => requireSameDevices(claims, devices));
  return claims;
}

function keysOf({ keys }: TokenPolicy, supplied: readonly string[]): TokenKeys {
  if (keys === 'certified')
    return { kind: 'certified', jwks: supplied.flatMap(parseJwks), anchors: NRAS_INTERMEDIATES };
  return { kind: 'pinned', jwks: 'jwks' in keys ? parseJwks(keys.jwks) : supplied.flatMap(parseJwks) };
}

/** One judgement for each report, in the order of either. */
function requireSameDevices({ devices: judged }: NrasClaims, local: TokenInput['devices']): void {
  const kinds = ['gpu', 'switch'] as const;
  for (const kind of kinds) {
    const of = judged.filter((device) => device.kind === kind);
    const here = local.filter(({ report }) => report.kind === kind);
    if (of.length === 0 && here.length > 0 && kind === 'switch') continue; // asked for in a request of their own
    if (of.length !== here.length)
      refuse('binding/gpu-identity', `NRAS judged ${of.length} devices of kind ${kind}, ${here.length} are here`);
    for (const [index, device] of of.entries()) {
      const own = here[index];
      const leaf = own?.chain[0];
      if (own === undefined || leaf === undefined) continue;
      const { report } = own;
      const versions =
        report.kind === 'gpu'
          ? { driverVersion: report.driverVersion, vbiosVersion: report.vbiosVersion }
          : { driverVersion: undefined, vbiosVersion: report.biosVersion };
      requireSameGpu(device, { leaf, ...versions });
    }
  }
}
