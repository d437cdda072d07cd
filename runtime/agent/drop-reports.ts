import { toCfnError } from '../../proto/index.ts';
import type { Kms, KeyClient } from './key-client.ts';

/** A statement is kept for so long while its KMS does not take it, in ms; then it is given up, and said so. */
const KEPT_MS = 60 * 60_000;
/** Between attempts, in ms: from the first to the last, each doubled. */
const RETRY_MS = { first: 500, last: 60_000 };

/** Statements that keys were dropped, on their way to the KMSs. */
export interface DropReports {
  /** Signs now, and reports until the KMS takes it. Call it when the key is gone. */
  report(kms: Kms, lease: string, reason: string, used: number): void;
  /** Resolves when all is reported or given up, and after `msMax` at the latest. */
  settled(msMax: number): Promise<void>;
}

export function dropReports({
  keys,
  leaseClockMs,
  log,
}: {
  readonly keys: Pick<KeyClient, 'stateDropped' | 'reportDropped'>;
  readonly leaseClockMs: () => number;
  readonly log: (event: string, fields: Readonly<Record<string, string>>) => void;
}): DropReports {
  const underWay = new Set<Promise<void>>();

  async function deliver(kms: Kms, lease: string, reason: string, used: number): Promise<void> {
    const statement = await keys.stateDropped(lease, reason, used);
    const until = leaseClockMs() + KEPT_MS;
    for (let wait = RETRY_MS.first; ; wait = Math.min(2 * wait, RETRY_MS.last)) {
      try {
        return await keys.reportDropped(kms, lease, statement);
      } catch (cause) {
        const { code, fault } = toCfnError(cause);
        if (fault !== 'system' || leaseClockMs() + wait > until)
          return log('lease.drop-unreported', { kms: new URL(kms.url).origin, code });
        await new Promise<void>((resolve) => void setTimeout(resolve, wait).unref());
      }
    }
  }
  return {
    report(kms, lease, reason, used) {
      const delivery = deliver(kms, lease, reason, used).finally(() => underWay.delete(delivery));
      underWay.add(delivery);
    },
    async settled(msMax) {
      const late = new Promise<void>((resolve) => void setTimeout(resolve, msMax).unref());
      await Promise.race([Promise.allSettled(underWay), late]);
    },
  };
}
