import { toHex } from '../../proto/index.ts';
import { contextTag, DER, DerReader, soleSequence } from './der.ts';
import { refuse } from './reasons.ts';
import type { Certificate } from './x509.ts';

/** DICE CompositeDeviceID (TCG, 2.23.133.5.4.1): leaf certificates of Hopper and of its switches. */
export const FIRMWARE_ID_EXTENSION = '2.23.133.5.4.1';
/** DICE TcbInfo of Blackwell's leaf certificates. */
const TCB_INFO_EXTENSION = '2.23.133.5.4.1.1';
const SHA384 = '2.16.840.1.101.3.4.2.2';
const FIRMWARE_ID_BYTES = 48;

export type NvidiaFamily = 'HOPPER' | 'BLACKWELL' | 'LS10';

/** What a device chain says of the device. */
export interface NvidiaDevice {
  readonly family: NvidiaFamily;
  /** Such as `GH100`, `GB100`, `LS10`. */
  readonly chip: string;
  /** Per-device id, 16 hexadecimal digits: the last eight bytes of the serial number of the certificate above the leaf. */
  readonly pdi: string;
}

const CHIP = /\b([A-Z]{2}_?\d{2,3})\b/;
const FAMILIES: readonly (readonly [RegExp, NvidiaFamily])[] = [
  [/^GH\d{3}$/, 'HOPPER'],
  [/^GB\d{3}$/, 'BLACKWELL'],
  [/^LS10$/, 'LS10'],
];
/** Chips whose makers' certificate is of another one: LS10 provisioners stand under Hopper's identity. */
const IDENTITIES: Readonly<Record<string, string>> = { LS10: 'GH100' };

/**
 * The family, from the names of all certificates between leaf and root, which must agree; so must the chip that the report itself
 * names. That the PDI stands in the serial number was measured on a machine of eight GPUs and four switches, both of which name
 * each other by it.
 *
 * @throws {Refusal} `certificate/wrong-product`
 */
export function readDevice(chain: readonly Certificate[]): NvidiaDevice {
  const [leaf, rom] = chain;
  const chip = leaf === undefined ? undefined : chipOf(leaf);
  if (leaf === undefined || rom === undefined || chip === undefined)
    refuse('certificate/wrong-product', `device chain names no chip: ${leaf?.subjectCommonName ?? 'it is empty'}`);
  for (const certificate of chain.slice(1, -1)) {
    const named = chipOf(certificate);
    const identity = certificate === chain.at(-2) ? IDENTITIES[chip] : undefined;
    if (named !== chip && (identity === undefined || named !== identity))
      refuse('certificate/wrong-product', `the leaf is of ${chip}, but above it is ${certificate.subjectCommonName}`);
  }
  const family = FAMILIES.find(([pattern]) => pattern.test(chip))?.[1];
  if (family === undefined) refuse('certificate/wrong-product', `${chip} is no device that we know`);
  return { family, chip, pdi: toHex(rom.serial.slice(-8)) };
}

function chipOf({ subjectCommonName }: Certificate): string | undefined {
  return CHIP.exec(subjectCommonName)?.[1]?.replace('_', '');
}

/**
 * The firmware id (SHA-384) that the device certificate names; `undefined` when it names none. Layouts observed on
 * real Hopper, LS10 and Blackwell chains (attestation-formats §4.2).
 *
 * @throws {Refusal} `parse/der`, `parse/unsupported-algorithm`
 */
export function certifiedFirmwareId(leaf: Certificate): Uint8Array | undefined {
  const tcbInfo = leaf.extensions.get(TCB_INFO_EXTENSION);
  if (tcbInfo !== undefined) return fromTcbInfo(tcbInfo);
  const deviceId = leaf.extensions.get(FIRMWARE_ID_EXTENSION);
  return deviceId === undefined ? undefined : fromCompositeDeviceId(deviceId);
}

/** CompositeDeviceID ::= SEQUENCE { version INTEGER, deviceID SubjectPublicKeyInfo, fwid FWID } */
function fromCompositeDeviceId(bytes: Uint8Array): Uint8Array {
  const fields = soleSequence(bytes, 'CompositeDeviceID');
  if (fields.integer('CompositeDeviceID version') !== 1)
    refuse('parse/unsupported-version', 'CompositeDeviceID is not version 1');
  fields.take(DER.sequence, 'device id');
  const firmwareId = parseFirmwareId(fields);
  fields.finish('CompositeDeviceID');
  return firmwareId;
}

/** TcbInfo ::= SEQUENCE { …, fwids [6] IMPLICIT SEQUENCE OF FWID OPTIONAL, … }; the first is the firmware that signs. */
function fromTcbInfo(bytes: Uint8Array): Uint8Array {
  const fields = soleSequence(bytes, 'TcbInfo');
  let found: Uint8Array | undefined;
  for (let last = -1; !fields.done;) {
    const { tag, content } = fields.any('TcbInfo field');
    const number = tag & 0x1f;
    if ((tag & 0xc0) !== 0x80 || number <= last) refuse('parse/der', `TcbInfo field has tag ${tag}`);
    last = number;
    if (tag === contextTag(6)) found = parseFirmwareId(new DerReader(content));
  }
  return found ?? refuse('parse/der', 'TcbInfo names no firmware id');
}

/** FWID ::= SEQUENCE { hashAlg OID, digest OCTET STRING } */
function parseFirmwareId(reader: DerReader): Uint8Array {
  const entry = reader.sequence('firmware id');
  if (entry.oid('firmware id hash') !== SHA384) refuse('parse/unsupported-algorithm', 'firmware id is not SHA-384');
  const digest = entry.take(DER.octetString, 'firmware id');
  entry.finish('firmware id');
  if (digest.length !== FIRMWARE_ID_BYTES) refuse('parse/der', `firmware id has ${digest.length} bytes, expected 48`);
  return digest;
}
