import { z } from 'zod';
import { ByteReader, equalBytes, fromBase64url, fromUtf8, utf8 } from '../../proto/index.ts';
import type { Hash, PublicKey } from './algorithms.ts';
import { parseJson } from './json.ts';
import { isFill } from './padding.ts';
import { rsaPublicKey } from './public-key.ts';
import { refuse } from './reasons.ts';
import { parseTdReportStruct, TD_REPORT_STRUCT_BYTES, type TdReportStruct } from './td-report-struct.ts';

/** What Azure's paravisor (HCL) leaves in the vTPM's non-volatile storage: a hardware report over the vTPM's keys. */
export interface HclReport {
  readonly hardware:
    { readonly kind: 'snp'; readonly report: Uint8Array } | { readonly kind: 'tdx'; readonly report: TdReportStruct };
  /** With this, `runtimeData` is hashed into the hardware report. */
  readonly hash: Hash;
  /** The JSON, exactly as hashed. */
  readonly runtimeData: Uint8Array;
  /** HCLAkPub: the vTPM's attestation key. */
  readonly attestationKey: PublicKey;
  readonly vm: AzureVm;
}

/** What the paravisor says of its VM; a member that it does not give is undefined. */
export interface AzureVm {
  readonly id: string | undefined;
  readonly secureBoot: boolean | undefined;
  readonly tpmEnabled: boolean | undefined;
  /** Whether the vTPM's state outlives a restart. */
  readonly tpmPersisted: boolean | undefined;
  readonly consoleEnabled: boolean | undefined;
  /** What the guest asked to be reported: hexadecimal, 64 bytes. */
  readonly userData: string | undefined;
}

const MAGIC = utf8('HCLA');
const HEADER_BYTES = 32;
const HARDWARE_REPORT_BYTES = 1184;
const RUNTIME_HEADER_BYTES = 20;
/** The storage area has 2600 bytes today. */
const BLOB_BYTES_MAX = 64 * 1024;
const REPORT_TYPES: Readonly<Record<number, 'snp' | 'tdx'>> = { 2: 'snp', 4: 'tdx' };
const HASHES: Readonly<Record<number, Hash>> = { 1: 'SHA-256', 2: 'SHA-384', 3: 'SHA-512' };

/** Members beside these are let through: the paravisor is measured, and new versions of it say more. */
const runtimeDataSchema = z.looseObject({
  keys: z.array(z.looseObject({ kid: z.string().max(100) })).max(16),
  'vm-configuration': z
    .looseObject({
      'secure-boot': z.boolean().optional(),
      'tpm-enabled': z.boolean().optional(),
      'tpm-persisted': z.boolean().optional(),
      'console-enabled': z.boolean().optional(),
      vmUniqueId: z.string().max(100).optional(),
    })
    .optional(),
  'user-data': z
    .string()
    .regex(/^[0-9A-Fa-f]{0,128}$/)
    .optional(),
});

/** RFC 7517; the exponent is 65537. What the key may do is not looked at: older paravisors say `encrypt` of a signing key. */
const attestationKeySchema = z.strictObject({
  kid: z.literal('HCLAkPub'),
  kty: z.literal('RSA'),
  key_ops: z.array(z.string().max(20)).max(8).optional(),
  e: z.literal('AQAB'),
  n: z.string().max(1024),
});

/**
 * Parses the HCL report (Azure confidential VMs, guest attestation design), little endian. Behind the runtime data only fill may
 * follow.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseHclReport(bytes: Uint8Array): HclReport {
  if (bytes.length > BLOB_BYTES_MAX)
    refuse('parse/length', `HCL report has ${bytes.length} bytes, at most ${BLOB_BYTES_MAX} are taken`);
  const reader = new ByteReader(bytes);
  const reportBytes = parseHeader(new ByteReader(reader.take(HEADER_BYTES, 'HCL header')));
  const hardwareReport = reader.take(HARDWARE_REPORT_BYTES, 'hardware report');
  const dataBytes = reader.u32le('runtime data size');
  const version = reader.u32le('runtime data version');
  if (version !== 1) refuse('parse/unsupported-version', `runtime data has version ${version}, expected 1`);
  const kind = reader.u32le('report type');
  const hashType = reader.u32le('hash type');
  const hash = HASHES[hashType] ?? refuse('parse/unsupported-algorithm', `runtime data hash is ${hashType}`);
  const runtimeBytes = reader.u32le('runtime data length');
  // Two lengths that disagree would let two readers hash different bytes.
  if (
    dataBytes !== RUNTIME_HEADER_BYTES + runtimeBytes ||
    reportBytes !== HEADER_BYTES + HARDWARE_REPORT_BYTES + dataBytes
  )
    refuse('parse/length', `HCL lengths disagree: report ${reportBytes}, data ${dataBytes}, JSON ${runtimeBytes}`);
  const runtimeData = reader.take(runtimeBytes, 'runtime data');
  if (!isFill(reader.take(reader.remaining, 'fill'))) refuse('parse/leftover', 'HCL report goes on after its end');
  return { hardware: parseHardware(kind, hardwareReport), hash, runtimeData, ...parseRuntimeData(runtimeData) };
}

/** Gives the length of the whole report. */
function parseHeader(header: ByteReader): number {
  if (!equalBytes(header.take(4, 'magic'), MAGIC)) refuse('parse/magic', 'HCL report does not start with HCLA');
  const version = header.u32le('HCL version');
  if (version !== 1 && version !== 2) refuse('parse/unsupported-version', `HCL report has version ${version}`);
  const reportBytes = header.u32le('report size');
  header.take(4, 'request type');
  const status = header.u32le('status');
  if (status !== 0) refuse('parse/reserved', `HCL status is ${status}, expected 0`);
  return reportBytes;
}

function parseHardware(type: number, report: Uint8Array): HclReport['hardware'] {
  const kind = REPORT_TYPES[type] ?? refuse('parse/unsupported-tee', `report type is ${type}, expected 2 or 4`);
  if (kind === 'snp') return { kind, report };
  const [struct, rest] = [report.subarray(0, TD_REPORT_STRUCT_BYTES), report.subarray(TD_REPORT_STRUCT_BYTES)];
  if (!isFill(rest)) refuse('parse/leftover', 'TDREPORT is followed by something else');
  return { kind, report: parseTdReportStruct(struct) };
}

function parseRuntimeData(bytes: Uint8Array): Pick<HclReport, 'attestationKey' | 'vm'> {
  const json = parseJson(fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED'), {
    what: 'runtime data',
    charactersMax: BLOB_BYTES_MAX,
  });
  const data = runtimeDataSchema.safeParse(json);
  if (!data.success) refuse('parse/json', 'runtime data has another form', { cause: data.error });
  const keys = data.data.keys.filter(({ kid }) => kid === 'HCLAkPub');
  if (keys.length !== 1) refuse('parse/json', `runtime data has ${keys.length} attestation keys, expected one`);
  const key = attestationKeySchema.safeParse(keys[0]);
  if (!key.success)
    refuse('parse/unsupported-key-type', 'attestation key is not an RSA key with exponent 65537', { cause: key.error });
  const vm = data.data['vm-configuration'];
  return {
    attestationKey: rsaPublicKey(fromBase64url(key.data.n, 'CFN_EVIDENCE_MALFORMED')),
    vm: {
      id: vm?.vmUniqueId,
      secureBoot: vm?.['secure-boot'],
      tpmEnabled: vm?.['tpm-enabled'],
      tpmPersisted: vm?.['tpm-persisted'],
      consoleEnabled: vm?.['console-enabled'],
      userData: data.data['user-data']?.toLowerCase(),
    },
  };
}
