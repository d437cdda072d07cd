import { fromUtf8 } from '../../proto/index.ts';
import { contextTag, DER, DerReader, soleSequence, unsignedInteger } from './der.ts';
import { refuse } from './reasons.ts';

/** Which VM a certificate of Google's virtual TPMs is of. */
export interface GceInstance {
  readonly zone: string;
  /** Decimal. */
  readonly projectNumber: string;
  readonly projectId: string;
  /** Decimal. */
  readonly instanceId: string;
  readonly instanceName: string;
  /** Whether Google issued it for production. */
  readonly isProduction: boolean;
}

const NUMBER_BYTES_MAX = 8;

/**
 * Parses the extension 1.3.6.1.4.1.11129.2.1.21 (google/go-tpm-tools, `GceInstanceInfo`).
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseGceInstance(bytes: Uint8Array): GceInstance {
  const reader = soleSequence(bytes, 'GCE instance');
  const text = (field: string): string => fromUtf8(reader.take(DER.utf8String, field), 'CFN_EVIDENCE_MALFORMED');
  const instance = {
    zone: text('zone'),
    projectNumber: takeDecimal(reader, 'project number'),
    projectId: text('project id'),
    instanceId: takeDecimal(reader, 'instance id'),
    instanceName: text('instance name'),
  };
  const properties = reader.optional(contextTag(0), 'security properties')?.content;
  reader.finish('GCE instance');
  return { ...instance, isProduction: properties !== undefined && isProduction(properties) };
}

/** GceSecurityProperties: [0] version, [1] isProduction, and members that are not needed. */
function isProduction(bytes: Uint8Array): boolean {
  const properties = soleSequence(bytes, 'security properties');
  let found = false;
  while (!properties.done) {
    const { tag, content } = properties.any('security property');
    if (tag !== contextTag(1)) continue;
    const value = new DerReader(content);
    found = value.take(DER.boolean, 'isProduction')[0] === 0xff;
    value.finish('isProduction');
  }
  return found;
}

function takeDecimal(reader: DerReader, field: string): string {
  const bytes = unsignedInteger(reader.take(DER.integer, field), field);
  if (bytes.length > NUMBER_BYTES_MAX) refuse('parse/der', `${field} has over 64 bits`);
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n).toString();
}
