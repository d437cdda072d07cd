import { equalBytes, fromHex, toHex } from '../../../proto/index.ts';
import type { EventLog, LogEvent } from '../../evidence/event-log.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import { authenticData, describeData, isSecureBootVariable, parseUefiVariable } from './event-data.ts';
import { eventTypeName } from './event-types.ts';
import type { NotChecked } from './quote.ts';
import { registerName, replayEventLog, type QuotedRegisters } from './replay.ts';

/** What a relying party demands of a log, beside that it replays. */
export interface EventLogDemands {
  readonly secureBoot: 'required' | NotChecked;
  /** Each register that the firmware extends has a separator, so that what came before the boot loader is told apart. */
  readonly separators: 'required' | NotChecked;
  /** All that was measured into a register (by the index that the log uses) is one of these digests; whatever it calls itself. */
  readonly digests: ReadonlyMap<number, readonly string[]> | NotChecked;
}

/** One measurement of a register that agrees with the quote. */
export interface EventClaim {
  /** Such as `RTMR 0`. */
  readonly register: string;
  /** Not authenticated: a hint for people. */
  readonly type: string;
  readonly digest: string;
  /** What the digest is over: all the event's data, a part of it, or something that is not in the log. */
  readonly data: 'authentic' | 'partly authentic' | 'descriptive';
  /** Of the authentic part where there is one, otherwise of what the log says, which may be a lie. */
  readonly description: string;
}

export interface EventLogClaims {
  /** Registers that the log explains, such as `PCR 7`. */
  readonly matched: readonly string[];
  /** `unknown` when the log does not show it in a way that cannot be forged. */
  readonly secureBoot: 'enabled' | 'disabled' | 'unknown';
  /** Of the matched registers only, in log order. */
  readonly events: readonly EventClaim[];
}

/** Content of the events that separate firmware from what it starts: success, in both spellings. */
const SEPARATORS = [fromHex('00000000'), fromHex('ffffffff')];
/**
 * Where the firmware measures its secure boot configuration, by the index that the log uses, and how many events may come before
 * that. PCR 7 is for this alone. RTMR 0 also gets boot entries and ACPI tables, whose content others choose, so that one could look
 * like the variable; but they come later than the first three: the hand-off block, the configuration volume, and the variable.
 */
const SECURE_BOOT = { PCR: { register: 7, eventsBeforeMax: Infinity }, RTMR: { register: 1, eventsBeforeMax: 2 } };
/** Registers that get a separator. RTMR 2 and 3 are the operating system's. */
const SEPARATED_REGISTERS = { PCR: [0, 1, 2, 3, 4, 5, 6, 7], RTMR: [1, 2] };

/** Verifies that a log explains the registers of a quote (which must be verified itself), and what it then shows. */
export async function verifyEventLog(
  log: EventLog,
  registers: QuotedRegisters,
  demands: EventLogDemands,
  findings: Findings,
): Promise<EventLogClaims> {
  const matched = await replayEventLog(log, registers, findings);
  const events = log.events.filter(({ register }) => matched.has(register));
  const boundaries = await separators(events, registers);
  const secureBoot = await secureBootState(events, registers, boundaries);
  await checkSeparators(registers, boundaries, demands, findings);
  await checkSecureBoot(secureBoot, demands, findings);
  await checkDigests(events, matched, registers, demands, findings);
  return {
    matched: [...matched].map((register) => registerName(registers.kind, register)),
    secureBoot,
    events: await Promise.all(events.map((event) => claimOf(event, registers))),
  };
}

/** The first separator of each register, told by its digest, since an event's type may lie. */
async function separators(events: readonly LogEvent[], { hash }: QuotedRegisters): Promise<Map<number, LogEvent>> {
  const digests = await Promise.all(
    SEPARATORS.map(async (data) => new Uint8Array(await crypto.subtle.digest(hash, data))),
  );
  const found = new Map<number, LogEvent>();
  for (const event of events) {
    const own = event.digests.get(hash);
    const isSeparator = own !== undefined && digests.some((digest) => equalBytes(digest, own));
    if (isSeparator && !found.has(event.register)) found.set(event.register, event);
  }
  return found;
}

/**
 * Only what the firmware measured before its first separator counts, because later anybody may extend the register with whatever
 * looks right; and only data whose digest it is. The event that says it is found by its data, not by its type.
 */
async function secureBootState(
  events: readonly LogEvent[],
  { kind, hash }: QuotedRegisters,
  boundaries: ReadonlyMap<number, LogEvent>,
): Promise<EventLogClaims['secureBoot']> {
  const { register, eventsBeforeMax } = SECURE_BOOT[kind];
  const boundary = boundaries.get(register);
  if (boundary === undefined) return 'unknown';
  const own = events.filter((event) => event.register === register);
  const states: string[] = [];
  for (const event of own.slice(0, Math.min(own.indexOf(boundary), eventsBeforeMax + 1))) {
    const variable = parseUefiVariable(event.data);
    if (variable === undefined || !isSecureBootVariable(variable)) continue;
    if ((await authenticData(event, hash))?.whole === true) states.push(toHex(variable.data));
  }
  const [state, ...more] = states;
  if (state === undefined || more.length > 0) return 'unknown';
  if (state === '01') return 'enabled';
  // Firmware without keys has no such variable.
  return state === '00' || state === '' ? 'disabled' : 'unknown';
}

async function checkSeparators(
  { kind }: QuotedRegisters,
  boundaries: ReadonlyMap<number, LogEvent>,
  { separators: demand }: EventLogDemands,
  findings: Findings,
): Promise<void> {
  if (demand !== 'required') return findings.skip('event log separators', demand.notChecked);
  await findings.check('event log separators', () => {
    const missing = SEPARATED_REGISTERS[kind].filter((register) => !boundaries.has(register));
    const names = missing.map((register) => registerName(kind, register)).join(', ');
    if (missing.length > 0) refuse('evidence/event-log-order', `no separator in ${names}`);
  });
}

async function checkSecureBoot(
  state: EventLogClaims['secureBoot'],
  { secureBoot: demand }: EventLogDemands,
  findings: Findings,
): Promise<void> {
  if (demand !== 'required') return findings.skip('secure boot', demand.notChecked);
  await findings.check('secure boot', () => {
    if (state !== 'enabled') refuse('policy/measurement', `secure boot is ${state}, expected enabled`);
  });
}

async function checkDigests(
  events: readonly LogEvent[],
  matched: ReadonlySet<number>,
  { kind, hash }: QuotedRegisters,
  { digests: demand }: EventLogDemands,
  findings: Findings,
): Promise<void> {
  if ('notChecked' in demand) return findings.skip('event log digests', demand.notChecked);
  for (const [register, accepted] of demand) {
    const name = registerName(kind, register);
    const check = `event log digests of ${name}`;
    await findings.check(check, () => {
      if (!matched.has(register)) refuse('evidence/event-log-replay', `the log does not explain ${name}`);
      const foreign = events
        .filter((event) => event.register === register)
        .map(({ digests }) => toHex(digests.get(hash) ?? new Uint8Array()))
        .filter((digest) => !accepted.includes(digest));
      if (foreign.length > 0)
        refuse('policy/measurement', `${foreign.length} measurements are not reference values, first ${foreign[0]}`);
    });
  }
}

async function claimOf(event: LogEvent, { kind, hash }: QuotedRegisters): Promise<EventClaim> {
  const authentic = await authenticData(event, hash);
  return {
    register: registerName(kind, event.register),
    type: eventTypeName(event.type),
    digest: toHex(event.digests.get(hash) ?? new Uint8Array()),
    data: authentic === undefined ? 'descriptive' : authentic.whole ? 'authentic' : 'partly authentic',
    description: describeData(authentic?.bytes ?? event.data),
  };
}
