import { ByteReader, fromHex, utf8, equalBytes } from '../../proto/index.ts';
import { isFill } from './padding.ts';
import { refuse } from './reasons.ts';
import { TPM_HASH_BYTES, TPM_HASHES, type TpmHash } from './tpm.ts';

/** One measurement, as the log tells it. Of all this only the digests enter a register: type and data may be lies. */
export interface LogEvent {
  /** PCR index; in a CCEL log the measurement register: 0 is MRTD, 1 to 4 are RTMR 0 to 3. */
  readonly register: number;
  readonly type: number;
  readonly digests: ReadonlyMap<TpmHash, Uint8Array>;
  readonly data: Uint8Array;
}

export interface EventLog {
  readonly hashes: readonly TpmHash[];
  /** Locality that started the TPM (0, 3 or 4); it is the first value of PCR 0. 0 when the log does not tell. */
  readonly startupLocality: number;
  /** In log order, without those that extend nothing. */
  readonly events: readonly LogEvent[];
  /** Bytes of the log; what follows is fill. */
  readonly bytes: number;
}

/** CCEL areas have 256 KiB, TPM logs about 64 KiB. */
const LOG_BYTES_MAX = 1024 * 1024;
const EVENTS_MAX = 4096;
const EVENT_BYTES_MAX = 256 * 1024;
const ALGORITHMS_MAX = 8;
/** PCR indexes reach 23; logs of other registers are none of ours. */
const REGISTER_MAX = 23;
const EV_NO_ACTION = 3;
const SPEC_ID = utf8('Spec ID Event03\0');
const STARTUP_LOCALITY = utf8('StartupLocality\0');
const ZERO_SHA1 = fromHex('00'.repeat(20));

/** What the header says of its algorithms: the length of a digest by algorithm id. */
type DigestBytes = ReadonlyMap<number, number>;

/**
 * Parses a crypto-agile event log (TCG PC Client Platform Firmware Profile §10), as TPMs have it and as the ACPI CCEL area of a TDX
 * guest has it. The log ends with its bytes, or where only fill follows the last event.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseEventLog(bytes: Uint8Array): EventLog {
  if (bytes.length === 0) refuse('parse/empty', 'event log is empty');
  if (bytes.length > LOG_BYTES_MAX)
    refuse('parse/length', `event log has ${bytes.length} bytes, at most ${LOG_BYTES_MAX} are taken`);
  const reader = new ByteReader(bytes);
  const digestBytes = parseHeader(reader);
  const events: LogEvent[] = [];
  let startupLocality: number | undefined;
  while (!isFill(bytes.subarray(reader.offset))) {
    if (events.length === EVENTS_MAX) refuse('parse/length', `event log has over ${EVENTS_MAX} events`);
    const event = parseEvent(reader, digestBytes);
    if (event.type !== EV_NO_ACTION) {
      events.push(event);
      continue;
    }
    const locality = parseStartupLocality(event);
    if (locality === undefined) continue;
    if (startupLocality !== undefined) refuse('parse/duplicate', 'event log tells the startup locality twice');
    if (events.some(({ register }) => register === 0))
      refuse('parse/duplicate', 'event log tells the startup locality after it extended PCR 0');
    startupLocality = locality;
  }
  const hashes = [...digestBytes.keys()].flatMap((id) => TPM_HASHES[id] ?? []);
  return { hashes, startupLocality: startupLocality ?? 0, events, bytes: reader.offset };
}

/** TCG_PCR_EVENT with TCG_EfiSpecIDEvent: an event in the old form that says what form the others have. */
function parseHeader(reader: ByteReader): DigestBytes {
  reader.u32le('header register');
  const type = reader.u32le('header type');
  const digest = reader.take(20, 'header digest');
  if (type !== EV_NO_ACTION || !equalBytes(digest, ZERO_SHA1))
    refuse('parse/unsupported-version', 'event log does not start with a Spec ID event');
  const header = new ByteReader(reader.take(reader.u32le('header length'), 'header'));
  if (!equalBytes(header.take(16, 'signature'), SPEC_ID))
    refuse('parse/unsupported-version', 'event log is not crypto-agile (Spec ID Event03)');
  header.take(8, 'platform class and versions');
  const count = header.u32le('algorithm count');
  if (count === 0 || count > ALGORITHMS_MAX) refuse('parse/length', `event log has ${count} hash algorithms`);
  const digestBytes = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const id = header.u16le('algorithm');
    const size = header.u16le('digest size');
    const name = TPM_HASHES[id];
    if (digestBytes.has(id)) refuse('parse/duplicate', `event log lists hash algorithm ${id} twice`);
    if (name === undefined ? size === 0 || size > 64 : size !== TPM_HASH_BYTES[name])
      refuse('parse/length', `event log gives hash algorithm ${id} digests of ${size} bytes`);
    digestBytes.set(id, size);
  }
  header.take(header.u8('vendor information length'), 'vendor information');
  header.finish('Spec ID event');
  return digestBytes;
}

/** TCG_PCR_EVENT2. */
function parseEvent(reader: ByteReader, digestBytes: DigestBytes): LogEvent {
  const register = reader.u32le('event register');
  if (register > REGISTER_MAX) refuse('parse/length', `event is for register ${register}, expected at most 23`);
  const type = reader.u32le('event type');
  const count = reader.u32le('digest count');
  if (count === 0 || count > digestBytes.size)
    refuse('parse/length', `event has ${count} digests; the header lists ${digestBytes.size} algorithms`);
  const digests = new Map<TpmHash, Uint8Array>();
  const seen = new Set<number>();
  for (let i = 0; i < count; i++) {
    const id = reader.u16le('digest algorithm');
    const size = digestBytes.get(id);
    if (size === undefined) return refuse('parse/unsupported-algorithm', `hash algorithm ${id} is not in the header`);
    if (seen.has(id)) refuse('parse/duplicate', `event has two digests of hash algorithm ${id}`);
    seen.add(id);
    const digest = reader.take(size, 'digest');
    const hash = TPM_HASHES[id];
    if (hash !== undefined) digests.set(hash, digest);
  }
  const length = reader.u32le('event length');
  if (length > EVENT_BYTES_MAX)
    refuse('parse/length', `event has ${length} bytes, at most ${EVENT_BYTES_MAX} are taken`);
  return { register, type, digests, data: reader.take(length, 'event') };
}

/** TCG_EfiStartupLocalityEvent (§10.4.5.3), which is in PCR 0. */
function parseStartupLocality({ register, data }: LogEvent): number | undefined {
  const prefix = data.subarray(0, STARTUP_LOCALITY.length);
  if (register !== 0 || !equalBytes(prefix, STARTUP_LOCALITY)) return undefined;
  const locality = data[STARTUP_LOCALITY.length];
  if (data.length !== STARTUP_LOCALITY.length + 1 || (locality !== 0 && locality !== 3 && locality !== 4))
    return refuse('parse/length', 'startup locality event is not a locality of 0, 3 or 4');
  return locality;
}
