import { randomInt } from 'node:crypto';
import { LEASE_BEAT_MS, toCfnError, type CfnError } from '../../proto/index.ts';
import type { Kms, KeyClient } from './key-client.ts';

/** Without a line for so long, in ms, a stream counts as down. */
const SILENCE_MS_MAX = 3 * LEASE_BEAT_MS;
/** For the stream to open, in ms. */
const OPEN_MS_MAX = 10_000;
/** Between attempts, in ms: from the first to the last, each doubled, and each of them more or less by chance, so that workers do not come at once. */
const RETRY_MS = { first: 250, last: 30_000 };

/** Who holds a lease. */
interface Follower {
  /** The KMS says that it has only so much left. */
  readonly shortened: (remainingMs: number) => void;
  /** Something may have been missed: ask. */
  readonly recheck: () => void;
}

/** Hears from each KMS at once what it does to leases: one stream for each, as long as a lease of it is followed. */
export interface LeaseWatch {
  follow(
    kms: Kms,
    lease: string,
    follower: Follower,
  ): {
    /** Whether the stream is up. While it is not, leases must be asked for. */
    readonly hears: () => boolean;
    readonly stop: () => void;
  };
  close(): void;
}

interface Line {
  readonly followers: Map<string, Follower>;
  readonly ended: AbortController;
  up: boolean;
}

export function leaseWatch({
  keys,
  log,
}: {
  readonly keys: Pick<KeyClient, 'leaseEvents'>;
  readonly log: (event: string, fields: Readonly<Record<string, string>>) => void;
}): LeaseWatch {
  const lines = new Map<string, Line>();
  const recheck = ({ followers }: Line): void => followers.forEach((follower) => follower.recheck());

  /** @returns why the stream ended */
  async function listen(kms: Kms, line: Line): Promise<CfnError | undefined> {
    const silent = new AbortController();
    const signal = AbortSignal.any([line.ended.signal, silent.signal]);
    let timer = setTimeout(() => silent.abort(), OPEN_MS_MAX);
    try {
      for await (const { lease, remainingMs = 0 } of keys.leaseEvents(kms, signal)) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENCE_MS_MAX);
        if (!line.up) {
          line.up = true;
          recheck(line); // what happened before the stream was open
        }
        if (lease !== undefined) line.followers.get(lease)?.shortened(remainingMs);
      }
      return undefined;
    } catch (cause) {
      return toCfnError(cause);
    } finally {
      clearTimeout(timer);
    }
  }
  async function keepListening(kms: Kms, line: Line): Promise<void> {
    for (let wait = RETRY_MS.first; !line.ended.signal.aborted; wait = Math.min(2 * wait, RETRY_MS.last)) {
      const reason = await listen(kms, line);
      if (line.ended.signal.aborted) return;
      if (line.up) wait = RETRY_MS.first;
      if (line.up || wait === RETRY_MS.first)
        log('leases.unheard', { kms: new URL(kms.url).origin, code: reason?.code ?? 'ended' });
      line.up = false;
      recheck(line);
      await pause(randomInt(wait / 2, wait * 1.5), line.ended.signal);
    }
  }

  return {
    follow(kms, lease, follower) {
      const name = `${kms.publicKey} ${kms.url}`;
      const line = lines.get(name) ?? { followers: new Map(), ended: new AbortController(), up: false };
      line.followers.set(lease, follower);
      if (!lines.has(name)) {
        lines.set(name, line);
        void keepListening(kms, line);
      } else if (line.up) follower.recheck(); // it may have ended before anybody here knew of it
      return {
        hears: () => line.up,
        stop: () => {
          line.followers.delete(lease);
          if (line.followers.size > 0) return;
          line.ended.abort();
          if (lines.get(name) === line) lines.delete(name);
        },
      };
    },
    close: () => lines.forEach(({ ended }) => ended.abort()),
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
