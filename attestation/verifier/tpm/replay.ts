import { concatBytes, equalBytes, toHex } from '../../../proto/index.ts';
import type { Hash } from '../../evidence/algorithms.ts';
import type { EventLog, LogEvent } from '../../evidence/event-log.ts';
import { refuse } from '../../evidence/reasons.ts';
import { TPM_HASH_BYTES } from '../../evidence/tpm.ts';
import type { Findings } from '../findings.ts';

/** Registers that a verified quote vouches for, by the index that the log uses. */
export interface QuotedRegisters {
  readonly kind: 'PCR' | 'RTMR';
  readonly hash: Hash;
  readonly values: ReadonlyMap<number, Uint8Array>;
  /** These must follow from the log. Others may have been extended by what does not write to it. */
  readonly required: readonly number[];
}

/** In a CCEL log, register 0 is MRTD and 1 to 4 are RTMR 0 to 3. */
const RTMR_OFFSET = 1;

/** RTMRs of a quote. 0 to 2 must follow from the log; firmware and kernels do not touch RTMR 3, so applications may. */
export function quotedRtmrs(rtmrs: readonly Uint8Array[]): QuotedRegisters {
  return {
    kind: 'RTMR',
    hash: 'SHA-384',
    values: new Map(rtmrs.map((value, index) => [index + RTMR_OFFSET, value])),
    required: [0, 1, 2].map((index) => index + RTMR_OFFSET),
  };
}

/** One bank of a TPM quote. The firmware's registers, 0 to 7, must follow from the log. */
export function quotedPcrs(hash: Hash, values: ReadonlyMap<number, Uint8Array>): QuotedRegisters {
  return { kind: 'PCR', hash, values, required: [0, 1, 2, 3, 4, 5, 6, 7] };
}

/** Such as `RTMR 0`, for a register by the index that the log uses. */
export function registerName(kind: QuotedRegisters['kind'], register: number): string {
  return `${kind} ${kind === 'RTMR' ? register - RTMR_OFFSET : register}`;
}

/**
 * Extends registers as the log says and compares them with the quoted ones. Gives the registers that agree, by the index that the
 * log uses: of those, the digests and their order are as genuine as the quote.
 */
export async function replayEventLog(
  log: EventLog,
  registers: QuotedRegisters,
  findings: Findings,
): Promise<ReadonlySet<number>> {
  const matched = new Set<number>();
  const touched = new Set(log.events.map(({ register }) => register));
  for (const index of [...new Set([...registers.required, ...registers.values.keys()])].toSorted((a, b) => a - b)) {
    const check = `event log replay of ${registerName(registers.kind, index)}`;
    const isRequired = registers.required.includes(index);
    if (!isRequired && !touched.has(index)) {
      findings.skip(check, 'the log has no event for it');
      continue;
    }
    const replayed = await replay(log, index, registers);
    const quoted = registers.values.get(index);
    if (replayed !== undefined && quoted !== undefined && equalBytes(replayed, quoted)) matched.add(index);
    else if (!isRequired) {
      findings.skip(check, 'it was also extended by what does not write to the log');
      continue;
    }
    await findings.check(check, () => {
      if (quoted === undefined) refuse('evidence/event-log-replay', 'the quote does not cover it');
      if (replayed === undefined)
        refuse('evidence/event-log-replay', `an event of the log has no ${registers.hash} digest`);
      if (!matched.has(index))
        refuse('evidence/event-log-replay', `the log gives ${toHex(replayed)}, the quote ${toHex(quoted)}`);
    });
  }
  return matched;
}

/** The value a register has after all its events; `undefined` when one of them has no digest of that bank. */
async function replay(
  { events, startupLocality }: EventLog,
  index: number,
  { kind, hash }: QuotedRegisters,
): Promise<Uint8Array | undefined> {
  let value: Uint8Array = new Uint8Array(TPM_HASH_BYTES[hash]);
  if (kind === 'PCR' && index === 0) value[value.length - 1] = startupLocality;
  // Registers of the dynamic root of trust (PC Client Platform TPM Profile §4.6).
  if (kind === 'PCR' && index >= 17 && index <= 22) value.fill(0xff);
  for (const { digests } of events.filter(({ register }: LogEvent) => register === index)) {
    const digest = digests.get(hash);
    if (digest === undefined) return undefined;
    value = new Uint8Array(await crypto.subtle.digest(hash, concatBytes(value, digest)));
  }
  return value;
}
