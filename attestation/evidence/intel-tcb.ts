import { z } from 'zod';
import { fromHex } from '../../proto/index.ts';
import { isJsonObject, type JsonObject } from './json.ts';
import { refuse } from './reasons.ts';

/** What Intel says of a level of platform, in its TCB info. */
export const PLATFORM_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
export type PlatformStatus = (typeof PLATFORM_STATUSES)[number];

/** Of a level of an enclave or of the TDX module. */
const COMPONENT_STATUSES = ['UpToDate', 'OutOfDate', 'Revoked'] as const;
export type ComponentStatus = (typeof COMPONENT_STATUSES)[number];

const hexOf = (bytes: number) =>
  z
    .string()
    .regex(new RegExp(`^[0-9A-Fa-f]{${2 * bytes}}$`))
    .transform((text): Uint8Array => fromHex(text.toLowerCase()));
/** ms since the epoch, from RFC 3339 in UTC with whole seconds, as Intel writes it. */
const time = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  .transform((text) => Date.parse(text))
  .refine((ms) => !Number.isNaN(ms));
const u8 = z.int().min(0).max(0xff);
const u16 = z.int().min(0).max(0xffff);
const advisoryIDs = z.array(z.string().min(1).max(64)).max(512).default([]);
/** Most levels, or identities, in one document; real ones have under twenty. */
const LEVELS_MAX = 256;

const componentLevels = (svn: typeof u8) =>
  z
    .array(
      z.object({ tcb: z.object({ isvsvn: svn }), tcbDate: time, tcbStatus: z.enum(COMPONENT_STATUSES), advisoryIDs }),
    )
    .max(LEVELS_MAX);
const svns = z.array(z.object({ svn: u8 }).transform(({ svn }) => svn)).length(16);
const moduleSchema = z.object({ mrsigner: hexOf(48), attributes: hexOf(8), attributesMask: hexOf(8) });
const signedHeader = {
  issueDate: time,
  nextUpdate: time,
  tcbEvaluationDataNumber: z.int().min(0),
};

/** Members that we do not know are ignored here: Intel adds some, and signs them all. */
const tcbInfoSchema = z.object({
  ...signedHeader,
  fmspc: hexOf(6),
  pceId: hexOf(2),
  tdxModule: moduleSchema,
  /** One for each major version of the module from 1 on. */
  tdxModuleIdentities: z
    .array(z.object({ id: z.string(), ...moduleSchema.shape, tcbLevels: componentLevels(u8) }))
    .max(LEVELS_MAX)
    .default([]),
  tcbLevels: z
    .array(
      z.object({
        tcb: z.object({ sgxtcbcomponents: svns, tdxtcbcomponents: svns, pcesvn: u16 }),
        tcbDate: time,
        tcbStatus: z.enum(PLATFORM_STATUSES),
        advisoryIDs,
      }),
    )
    .min(1)
    .max(LEVELS_MAX),
});
/** Intel's TCB info for TDX (API v4): what counts as up to date for one platform (FMSPC). Times in ms since the epoch. */
export type TcbInfo = z.infer<typeof tcbInfoSchema>;
export type PlatformLevel = TcbInfo['tcbLevels'][number];
export type ModuleIdentity = TcbInfo['tdxModuleIdentities'][number];

const qeIdentitySchema = z.object({
  ...signedHeader,
  miscselect: hexOf(4),
  miscselectMask: hexOf(4),
  attributes: hexOf(16),
  attributesMask: hexOf(16),
  mrsigner: hexOf(32),
  isvprodid: u16,
  tcbLevels: componentLevels(u16).min(1),
});
/** Intel's identity of the TD quoting enclave. Masks and values are in the byte order of the enclave's report. */
export type QeIdentity = z.infer<typeof qeIdentitySchema>;
export type ComponentLevel = QeIdentity['tcbLevels'][number];

/**
 * Parses the content of a TCB info whose signature is verified.
 *
 * @throws {Refusal} `collateral/wrong-id` for another TEE, `collateral/wrong-version`, `parse/json`
 */
export function parseTcbInfo(text: string): TcbInfo {
  const json = parseHeader(text, 'TCB info', 'TDX', 3);
  // Type 0 is the one way of comparing SVNs that is defined.
  if (json['tcbType'] !== 0) refuse('collateral/wrong-version', 'TCB info has an unknown tcbType');
  return parseContent(tcbInfoSchema, json, 'TCB info');
}

/**
 * Parses the content of a QE identity whose signature is verified.
 *
 * @throws {Refusal} as {@link parseTcbInfo}
 */
export function parseQeIdentity(text: string): QeIdentity {
  return parseContent(qeIdentitySchema, parseHeader(text, 'QE identity', 'TD_QE', 2), 'QE identity');
}

/** Documents for SGX have other members, so what a document is for is asked first. */
function parseHeader(text: string, what: string, id: string, version: number): JsonObject {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    refuse('parse/json', `${what} is not JSON`, { cause });
  }
  if (!isJsonObject(json)) refuse('parse/json', `${what} is not a JSON object`);
  if (json['id'] !== id) refuse('collateral/wrong-id', `${what} has id ${show(json['id'])}, expected ${id}`);
  if (json['version'] !== version)
    refuse('collateral/wrong-version', `${what} has version ${show(json['version'])}, expected ${version}`);
  return json;
}

function show(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 40) ?? 'none';
}

function parseContent<T extends z.ZodType>(schema: T, json: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  refuse('parse/json', `${what}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
}
