import { concatBytes, fromHex, sha256, sha384, utf8 } from '../../proto/index.ts';
import { SIMULATED_QE_SIGNER, TD_QE_PRODUCT } from '../verifier/trust-anchors.ts';
import { sign, toPem } from './certificates.ts';
import type { SimulatedChain } from './pki.ts';

type Bytes = Uint8Array<ArrayBuffer>;

/** The quoting enclave's part: an attestation key in memory, and what the PCK key signed over it. */
export interface SimulatedQuotingEnclave {
  readonly attestationKey: CryptoKey;
  /** Attestation key x ‖ y, followed by certification data of type 6. */
  readonly tail: Bytes;
}

export interface SimulatedTd {
  /** 48 bytes. */
  readonly mrtd: Uint8Array;
  readonly rtmrs: readonly Uint8Array[];
  readonly debug: boolean;
}

/** Fixed values of the simulated platform that its policy lists. */
export async function simulatedMeasurements(): Promise<{ mrseam: Bytes; rtmrs: Bytes[] }> {
  const named = (name: string): Promise<Bytes> => sha384(utf8(`cfn SIMULATED ${name}`));
  return {
    mrseam: await named('MRSEAM'),
    rtmrs: [await named('RTMR0'), await named('RTMR1'), await named('RTMR2'), new Uint8Array(48)],
  };
}

/** Makes a fresh attestation key and has the platform's PCK key vouch for it. */
export async function startQuotingEnclave(pck: SimulatedChain): Promise<SimulatedQuotingEnclave> {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey)).subarray(1); // without the 04 prefix
  const authenticationData = Uint8Array.from({ length: 32 }, (_, i) => i); // as real enclaves have it
  const report = qeReport(await sha256(concatBytes(publicKey, authenticationData)));
  const pem = utf8(`${toPem(pck.certificates)}\0`);
  const inner = concatBytes(
    report,
    await sign(pck.leafKey, 'P-256', report),
    u16(authenticationData.length),
    authenticationData,
    u16(5),
    u32(pem.length),
    pem,
  );
  return { attestationKey: keys.privateKey, tail: concatBytes(publicKey, u16(6), u32(inner.length), inner) };
}

/** A TDX quote of version 4 over 64 bytes of report data. */
export async function writeQuote(
  enclave: SimulatedQuotingEnclave,
  td: SimulatedTd,
  reportData: Uint8Array,
): Promise<Bytes> {
  const signed = concatBytes(quoteHeader(), await tdReport(td, reportData));
  const signature = await sign(enclave.attestationKey, 'P-256', signed);
  return concatBytes(signed, u32(signature.length + enclave.tail.length), signature, enclave.tail);
}

function quoteHeader(): Bytes {
  // version 4, ECDSA P-256, TEE type TDX, reserved, QE vendor, user data
  return concatBytes(
    u16(4),
    u16(2),
    u32(0x81),
    u32(0),
    fromHex('939a7233f79c4ca9940a0db3957f0607'),
    new Uint8Array(20),
  );
}

async function tdReport({ mrtd, rtmrs, debug }: SimulatedTd, reportData: Uint8Array): Promise<Bytes> {
  const { mrseam } = await simulatedMeasurements();
  return concatBytes(
    fromHex('08010800000000000000000000000000'), // TEE_TCB_SVN
    mrseam,
    new Uint8Array(48 + 8), // MRSIGNERSEAM, SEAMATTRIBUTES
    u64(0x1000_0000n | (debug ? 1n : 0n)), // TDATTRIBUTES: SEPT_VE_DISABLE
    u64(0x602e7n), // XFAM
    mrtd,
    new Uint8Array(3 * 48), // MRCONFIGID, MROWNER, MROWNERCONFIG
    ...rtmrs,
    reportData,
  );
}

function qeReport(keyDigest: Uint8Array): Bytes {
  return concatBytes(
    fromHex('0808ffff04ff00060000000000000000'), // CPUSVN
    new Uint8Array(4 + 28), // MISCSELECT, reserved
    fromHex('1100000000000000e700000000000000'), // ATTRIBUTES
    new Uint8Array(32 + 32), // MRENCLAVE, reserved
    SIMULATED_QE_SIGNER,
    new Uint8Array(96),
    u16(TD_QE_PRODUCT),
    u16(6), // ISVSVN
    new Uint8Array(60),
    keyDigest,
    new Uint8Array(32),
  );
}

function u16(value: number): Bytes {
  return Uint8Array.of(value & 0xff, value >> 8);
}
function u32(value: number): Bytes {
  return concatBytes(u16(value & 0xffff), u16(value >>> 16));
}
function u64(value: bigint): Bytes {
  return new Uint8Array(new BigUint64Array([value]).buffer); // the platforms that run Node are little-endian
}
