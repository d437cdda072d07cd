import { equalBytes, toHex } from '../../../proto/index.ts';
import { certifiedFirmwareId, readDevice } from '../../evidence/gpu-certificate.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { verifyChain } from '../pki/chain.ts';
import { verifyEcdsa } from '../pki/signatures.ts';
import { settled } from '../pki/settled.ts';

export interface NvidiaDeviceEvidence<Report> {
  /** For messages, such as `GPU 0`. */
  readonly name: string;
  readonly report: Report;
  /** Leaf first, root last. */
  readonly chain: readonly Certificate[];
}

export interface DeviceOptions {
  /** What the report must answer: 32 bytes. */
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly now: Date;
  /** SHA-256 of the device root's DER, hexadecimal. */
  readonly root: string;
}

/** Work begun for {@link verifyDevice}. */
export interface DeviceVerification<Report> {
  readonly evidence: NvidiaDeviceEvidence<Report>;
  readonly chain: Promise<void>;
  readonly signed: Promise<boolean>;
}

/** Begins what takes long, so that it runs beside other work. */
export function beginDevice<Report extends GpuReport | SwitchReport>(
  evidence: NvidiaDeviceEvidence<Report>,
  { root, now }: DeviceOptions,
): DeviceVerification<Report> {
  const { name, chain } = evidence;
  return {
    evidence,
    chain: settled(verifyChain(chain, { root, now, what: `${name} chain` })),
    signed: settled(isSigned(evidence)),
  };
}

/**
 * Verifies that a device of NVIDIA made the report, now: chain, product, firmware id, signature, nonce (attestation-formats §4.4,
 * steps 2 and 4 to 6).
 *
 * @returns whether chain, product and signature hold
 */
export async function verifyDevice(
  { evidence, chain, signed }: DeviceVerification<GpuReport | SwitchReport>,
  { nonce }: DeviceOptions,
  findings: Findings,
): Promise<boolean> {
  const { name, report } = evidence;
  const isChained = await findings.check(`${name} certificate chain`, () => chain);
  const isProduct = await findings.check(`${name} product`, () => requireProduct(evidence));
  if (isChained)
    await findings.check(`${name} report signature`, async () => {
      if (!(await signed)) refuse('evidence/gpu-report-signature', `${name}: the device key did not sign the report`);
    });
  else findings.skip(`${name} report signature`, 'nobody vouches for the key');
  if ('notChecked' in nonce) findings.skip(`${name} nonce`, nonce.notChecked);
  else await findings.check(`${name} nonce`, () => requireNonce(report.nonce, nonce, name));
  if (report.fwid !== undefined) await findings.check(`${name} firmware id`, () => requireFirmwareId(evidence));
  return isChained && isProduct && (await signed);
}

async function isSigned({ report, chain }: NvidiaDeviceEvidence<GpuReport | SwitchReport>): Promise<boolean> {
  const key = chain[0]?.publicKey;
  if (key?.type !== 'ec' || key.curve !== 'P-384') return false;
  return verifyEcdsa(key, 'SHA-384', report.signature, report.signedBytes);
}

/** Reports do not say what sort of device they are of, but for Blackwell's newer drivers. */
function requireProduct({ name, report, chain }: NvidiaDeviceEvidence<GpuReport | SwitchReport>): void {
  const device = readDevice(chain);
  if ((device.family === 'LS10') !== (report.kind === 'switch'))
    refuse(
      'certificate/wrong-product',
      `${name}: the report is of a ${report.kind}, the certificate of ${device.chip}`,
    );
  if (report.kind === 'gpu' && report.chip !== undefined && report.chip !== device.chip)
    refuse('certificate/wrong-product', `${name}: the report says ${report.chip}, the certificate ${device.chip}`);
  if (report.kind === 'switch' && report.pdi !== device.pdi)
    refuse(
      'certificate/wrong-product',
      `${name}: the report is of ${String(report.pdi)}, the certificate of ${device.pdi}`,
    );
}

function requireNonce(reported: Uint8Array, expected: Uint8Array, name: string): void {
  if (expected.length === 0) refuse('binding/nonce-empty', `${name}: no nonce is expected`);
  if (!equalBytes(reported, expected))
    refuse('binding/nonce-mismatch', `${name} answers the nonce ${toHex(reported)}, not the expected one`);
}

/** The firmware that the device certificate was issued for must be the one that reports. */
function requireFirmwareId({ name, report, chain: [leaf] }: NvidiaDeviceEvidence<GpuReport | SwitchReport>): void {
  const certified = leaf === undefined ? undefined : certifiedFirmwareId(leaf);
  if (certified === undefined || report.fwid === undefined)
    refuse('evidence/fwid-unavailable', `${name}: the certificate names no firmware id`);
  if (!equalBytes(certified, report.fwid))
    refuse('evidence/fwid-mismatch', `${name} reports another firmware id than its certificate names`);
}
