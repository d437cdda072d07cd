import { refuse } from '../../evidence/reasons.ts';
import { verifyEventLog, type EventLogClaims, type EventLogDemands } from '../tpm/event-log.ts';
import { selectPcrs } from '../tpm/quote.ts';
import { quotedPcrs, quotedRtmrs, type QuotedRegisters } from '../tpm/replay.ts';
import type { Part } from './appraise-inputs.ts';
import type { AppraisedTee } from './tees.ts';
import type { AppraisedTpm } from './tpms.ts';

/** A log explains registers; what they must be, the policy says of the registers themselves. */
const DEMANDS: EventLogDemands = {
  secureBoot: { notChecked: 'the policy speaks of the registers that the log explains' },
  separators: { notChecked: 'the policy speaks of the registers that the log explains' },
  digests: { notChecked: 'the policy speaks of the registers that the log explains' },
};

/** Every log must replay to the registers of the one quote that it came with. */
export async function appraiseLogs(
  { gathered: { eventLogs }, findings }: Part,
  tees: readonly AppraisedTee[],
  tpms: readonly AppraisedTpm[],
): Promise<EventLogClaims[]> {
  const claims: EventLogClaims[] = [];
  for (const log of eventLogs) {
    const registers = registersOf(tees, tpms);
    if (registers === undefined)
      await findings.check('event log', () =>
        refuse('evidence/event-log-replay', 'no quote vouches for the event log'),
      );
    else claims.push(await verifyEventLog(log, registers, DEMANDS, findings));
  }
  return claims;
}

function registersOf(tees: readonly AppraisedTee[], tpms: readonly AppraisedTpm[]): QuotedRegisters | undefined {
  const [quote] = tees.flatMap((tee) => tee.quote ?? []);
  if (quote !== undefined) return quotedRtmrs(quote.report.rtmrs);
  const [tpm] = tpms;
  const values = tpm && selectPcrs(tpm.evidence.quote).get('SHA-256');
  return values && quotedPcrs('SHA-256', values);
}
