import { sha256Hex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import { openRevocation, type Revocation } from '../nvidia/revocation.ts';
import { beginRim, openRim, verifyRim } from '../nvidia/rim.ts';
import { verifyChain } from '../pki/chain.ts';
import { issuersOf } from '../pki/issuers.ts';
import { AK_ROOTS, AMD_ROOTS, INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT, NVIDIA_RIM_ROOT } from '../trust-anchors.ts';
import type { Part } from './appraise-inputs.ts';
import type { Gathered } from './gather.ts';
import { crlsOf } from './tees.ts';

const ROOTS: readonly string[] = [
  INTEL_SGX_ROOT,
  NVIDIA_DEVICE_ROOT,
  NVIDIA_RIM_ROOT,
  ...Object.values(AMD_ROOTS),
  ...Object.values(AK_ROOTS),
];

/**
 * Endorsements without evidence: who signed a RIM, and whether certificates lead to a vendor. They prove nothing of a machine, and no
 * policy that asks for evidence accepts them alone.
 */
export async function appraiseLone(part: Part): Promise<void> {
  const { tdxQuotes, snpReports, devices, tpm, nras, rims, certificates } = part.gathered;
  if (devices.length === 0 && rims.length > 0) await verifyRims(part);
  const evidence = [tdxQuotes, snpReports, devices, tpm, nras].some((list) => list.length > 0);
  if (evidence || rims.length > 0) return;
  const all = certificates.flatMap((file) => file.certificates);
  const leaves = all.filter(({ isCa }) => !isCa);
  if (leaves.length === 0) {
    await part.findings.check('evidence', () => refuse('parse/unknown-input', 'there is no evidence among the inputs'));
    return;
  }
  const revocation = revocationOf(part, part.gathered.crls);
  for (const leaf of leaves) await verifyLeaf(leaf, all, revocation, part);
  await revocation.finish(part.findings);
}

/** What was supplied counts; nothing is demanded. */
function revocationOf({ gathered: { ocsp }, now }: Part, crls: Gathered['crls']): Revocation {
  return openRevocation({
    ocsp,
    crls,
    demand: { whenSupplied: 'nothing was supplied for it' },
    holdTolerated: false,
    now,
  });
}

async function verifyRims(part: Part): Promise<void> {
  const { gathered, now, findings } = part;
  const revocation = revocationOf(part, crlsOf(gathered, 'nvidia'));
  for (const bytes of gathered.rims) {
    const rim = await openRim(bytes, NVIDIA_RIM_ROOT, undefined);
    await verifyRim(beginRim(rim, NVIDIA_RIM_ROOT), now, undefined, findings);
    await revocation.check(rim.rim.signature.certificates, 0, rim.what, findings);
  }
  await revocation.finish(findings);
}

async function verifyLeaf(
  leaf: Certificate,
  all: readonly Certificate[],
  revocation: Revocation,
  { now, findings }: Part,
): Promise<void> {
  const chain = [leaf, ...issuersOf(leaf, all)];
  const what = `certificate ${leaf.subjectCommonName || 'without a name'}`;
  await findings.check(`${what}: chain`, async () => {
    const root = await sha256Hex((chain.at(-1) ?? leaf).der);
    if (!ROOTS.includes(root)) refuse('certificate/untrusted-root', `${what} leads to no root that is pinned`);
    await verifyChain(chain, { root, now, what });
  });
  await revocation.check(chain, 0, what, findings);
}
