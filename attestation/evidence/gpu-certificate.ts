import { CfnError } from '../../proto/index.ts';
import { contextTag, DER, DerReader, soleSequence } from './der.ts';
import type { Certificate } from './x509.ts';

/** DICE firmware id of Hopper's leaf certificates: a structure that ends with the 48 bytes. */
export const FIRMWARE_ID_EXTENSION = '2.23.133.5.4.1';
/** DICE TcbInfo of Blackwell's leaf certificates. */
const TCB_INFO_EXTENSION = '2.23.133.5.4.1.1';
const SHA384 = '2.16.840.1.101.3.4.2.2';
const FIRMWARE_ID_BYTES = 48;

/**
 * The firmware id (SHA-384) that the device certificate names; `undefined` when it names none. Layouts observed on
 * real Hopper and Blackwell chains (attestation-formats §4.2).
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function certifiedFirmwareId(leaf: Certificate): Uint8Array | undefined {
  const tcbInfo = leaf.extensions.get(TCB_INFO_EXTENSION);
  if (tcbInfo !== undefined) return firstFirmwareId(tcbInfo);
  const hopper = leaf.extensions.get(FIRMWARE_ID_EXTENSION);
  if (hopper === undefined) return undefined;
  if (hopper.length < FIRMWARE_ID_BYTES) throw malformed('firmware id extension is too short');
  return hopper.subarray(-FIRMWARE_ID_BYTES);
}

/** TcbInfo ::= SEQUENCE { …, fwids [6] IMPLICIT SEQUENCE OF SEQUENCE { hashAlg OID, digest OCTET STRING } OPTIONAL, … } */
function firstFirmwareId(bytes: Uint8Array): Uint8Array {
  const fields = soleSequence(bytes, 'TcbInfo');
  while (!fields.done) {
    const { tag, content } = fields.any('TcbInfo field');
    if (tag !== contextTag(6)) continue;
    const entry = new DerReader(content).sequence('firmware id');
    if (entry.oid('firmware id hash') !== SHA384) throw malformed('firmware id is not SHA-384');
    const digest = entry.take(DER.octetString, 'firmware id');
    entry.finish('firmware id');
    if (digest.length !== FIRMWARE_ID_BYTES) throw malformed(`firmware id has ${digest.length} bytes, expected 48`);
    return digest;
  }
  throw malformed('TcbInfo names no firmware id');
}

function malformed(message: string): CfnError {
  return new CfnError('CFN_EVIDENCE_MALFORMED', message);
}
