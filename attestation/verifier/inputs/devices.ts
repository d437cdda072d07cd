import { equalBytes } from '../../../proto/index.ts';
import { certifiedFirmwareId } from '../../evidence/gpu-certificate.ts';
import { parseNvidiaReport, type GpuReport, type SwitchReport } from '../../evidence/nvidia.ts';
import { Refusal, refuse } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import { appraiseNvidia, type DeviceInput, type NvidiaClaims } from '../appraisal/gpus.ts';
import type { NvidiaVerification } from '../nvidia/verify.ts';
import { issuersOf } from '../pki/issuers.ts';
import { verifyEcdsa } from '../pki/signatures.ts';
import type { Part } from './appraise-inputs.ts';
import { parsePemFile } from './certificates.ts';
import type { Gathered } from './gather.ts';
import { crlsOf } from './tees.ts';

export type AppraisedDevices = NvidiaClaims & { readonly verification: NvidiaVerification };

/** GPUs and switches; `undefined` when the policy does without, or asks for none and none is there. */
export async function appraiseDevices({
  gathered,
  policy: { gpu },
  nonce,
  now,
  findings,
}: Part): Promise<AppraisedDevices | undefined> {
  if ('notRequired' in gpu) {
    for (const { report } of gathered.devices) parseNvidiaReport(report);
    findings.skip('GPUs', gpu.notRequired);
    return undefined;
  }
  return appraiseNvidia(
    {
      devices: await devicesOf(gathered),
      rims: gathered.rims,
      ocsp: gathered.ocsp,
      crls: crlsOf(gathered, 'nvidia'),
      policy: gpu,
      nonce: deviceNonce(gathered, nonce),
      now,
    },
    findings,
  );
}

/** Most reports and chains that are matched by trying signatures, each try of a millisecond; the largest machines have 12 of both. */
const MATCHED_MAX = 32;

/** Reports with the chain that came with each, or that belongs to it. */
export async function devicesOf(gathered: Gathered): Promise<DeviceInput[]> {
  const reports = gathered.devices.map(({ report, pem }) => ({ report: parseNvidiaReport(report), pem }));
  const named = chainsOf(gathered, 'nvidia');
  const chains = named.length > 0 ? named : chainsOf(gathered, 'other');
  if (reports.length > MATCHED_MAX || (reports.length > 0 && chains.length > MATCHED_MAX))
    refuse('parse/length', `${reports.length} reports and ${chains.length} chains, at most ${MATCHED_MAX} are taken`);
  const devices: DeviceInput[] = [];
  for (const [index, { report, pem }] of reports.entries()) {
    const own = pem === undefined ? undefined : parsePemFile(pem).file?.certificates;
    devices.push({ report, chain: own ?? (await chainFor(report, index, chains)) });
  }
  return devices;
}

/** A capture states the nonce that all of it answers; whether that is the relying party's is looked at with the binding. */
function deviceNonce({ captures: [capture] }: Gathered, nonce: Part['nonce']): Part['nonce'] {
  return 'notChecked' in nonce && capture !== undefined ? capture.nonce : nonce;
}

/** Chains, one a file; those whose upper part, or every certificate, comes in a file of its own are put together. */
function chainsOf({ certificates }: Gathered, owner: 'nvidia' | 'other'): (readonly Certificate[])[] {
  const files = certificates.filter(({ vendor }) => vendor === owner).map((file) => file.certificates);
  const all = files.flat();
  const chains = files.map((file) => [...file, ...file.slice(-1).flatMap((last) => issuersOf(last, all))]);
  const begun = chains.filter(([leaf]) => leaf?.isCa === false);
  return begun.length > 0 ? begun : chains;
}

/**
 * The chain of a report: the one whose leaf signed it, or whose leaf names its firmware; else the one in the same place, so that the
 * verifier can say what is wrong with it.
 */
async function chainFor(
  report: GpuReport | SwitchReport,
  index: number,
  chains: readonly (readonly Certificate[])[],
): Promise<readonly Certificate[]> {
  for (const chain of chains) {
    const key = chain[0]?.publicKey;
    if (key?.type === 'ec' && key.curve === 'P-384') {
      if (await verifyEcdsa(key, 'SHA-384', report.signature, report.signedBytes)) return chain;
    }
  }
  return chains.find(([leaf]) => leaf !== undefined && namesFirmware(leaf, report)) ?? chains[index] ?? chains[0] ?? [];
}

function namesFirmware(leaf: Certificate, { fwid }: GpuReport | SwitchReport): boolean {
  try {
    const certified = certifiedFirmwareId(leaf);
    return certified !== undefined && fwid !== undefined && equalBytes(certified, fwid);
  } catch (error) {
    if (error instanceof Refusal) return false;
    throw error;
  }
}
