import { parseJwks } from '../../evidence/jwks.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import type { VerifiedDevice } from '../nvidia/verify.ts';
import type { TokenPolicy } from '../policy/services.ts';
import { requireSameGpu, ueidOf } from '../tokens/same-gpu.ts';
import type { TokenKeys } from '../tokens/keys.ts';
import { verifyNras, type NrasClaims, type NrasDeviceClaims } from '../tokens/nras.ts';
import { NRAS_INTERMEDIATES } from '../trust-anchors.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';

export interface TokenInput {
  /** NRAS's answer, as it came. */
  readonly answer: string;
  /** Key sets that came with it. */
  readonly jwks: readonly string[];
  readonly nonce: Uint8Array;
  readonly policy: TokenPolicy;
  readonly now: Date;
}

/** A device whose report is at hand. */
type LocalReport = VerifiedDevice<GpuReport | SwitchReport>;

/** Verifies NVIDIA's judgement. What it is about, {@link checkSameDevices} compares. */
export async function appraiseToken(input: TokenInput, findings: Findings): Promise<NrasClaims> {
  const { answer, jwks, nonce, policy, now } = input;
  const claims = await verifyNras({ answer, keys: keysOf(policy, jwks), nonce, now, issuer: policy.issuer }, findings);
  if (typeof policy.keys === 'object' && 'supplied' in policy.keys)
    findings.skip('NRAS keys: who vouches for them', policy.keys.supplied);
  return claims;
}

/**
 * Checks that NVIDIA's judgements are about the devices at hand, in any order. Every GPU must be judged; switches, which are asked about
 * in a request of their own, all or none.
 */
export async function checkSameDevices(
  answers: readonly NrasClaims[],
  devices: readonly LocalReport[],
  findings: Findings,
): Promise<void> {
  const check = 'NRAS devices: same as in the reports';
  if (devices.length === 0) return findings.skip(check, 'there is no GPU report to compare with');
  await findings.check(check, () =>
    requireSameDevices(
      answers.flatMap((answer) => answer.devices),
      devices,
    ),
  );
}

function keysOf({ keys }: TokenPolicy, supplied: readonly string[]): TokenKeys {
  if (keys === 'certified')
    return { kind: 'certified', jwks: supplied.flatMap(parseJwks), anchors: NRAS_INTERMEDIATES };
  return { kind: 'pinned', jwks: 'jwks' in keys ? parseJwks(keys.jwks) : supplied.flatMap(parseJwks) };
}

function requireSameDevices(judged: readonly NrasDeviceClaims[], local: readonly LocalReport[]): void {
  const found = new Set<LocalReport>();
  for (const device of judged) {
    const own = local.find(({ report, chain: [leaf] }) => report.kind === device.kind && ueidOf(leaf) === device.ueid);
    const leaf = own?.chain[0];
    if (own === undefined || leaf === undefined)
      refuse(
        'binding/gpu-identity',
        `NRAS ${device.name} (ueid ${device.ueid ?? 'absent'}) is no device of the reports`,
      );
    const { report } = own;
    requireSameGpu(device, {
      leaf,
      driverVersion: report.kind === 'gpu' ? report.driverVersion : undefined,
      vbiosVersion: report.kind === 'gpu' ? report.vbiosVersion : report.biosVersion,
    });
    found.add(own);
  }
  const missing = local.filter((own) => !found.has(own));
  const kinds = new Set(judged.map(({ kind }) => kind));
  const [first] = missing.filter(({ report }) => report.kind === 'gpu' || kinds.has('switch'));
  if (first !== undefined) refuse('binding/gpu-identity', `NRAS did not judge ${first.name}`);
}
