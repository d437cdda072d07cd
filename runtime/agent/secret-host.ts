import { CfnError, type Sealed, type SignedManifest } from '../../proto/index.ts';
import { LEASE_WAKE_MS } from '../lease-clock.ts';
import type { DropReports } from './drop-reports.ts';
import { holdLease } from './held-lease.ts';
import type { KeyClient, SecretClient } from './key-client.ts';
import type { LeaseWatch } from './lease-watch.ts';

/** Secrets for one sandbox, under a lease of its own. The agent cannot open them. */
export interface SecretsUse {
  readonly wrapped: Sealed;
  readonly challenge: string;
  /** Resolves when the KMS does not stand by the lease any more: secrets were changed, deleted or withdrawn. Ask anew. */
  readonly changed: Promise<void>;
  /** Resolves at the end of the lease's time: the sandbox must not go on. */
  readonly ended: Promise<void>;
  /** The sandbox is gone, and the secrets with it: stops watching, and tells the KMS. */
  dropped(): void;
}

/** Gets a function's secrets from the KMS that its manifest names. */
export interface SecretHost {
  /**
   * @param wrappingKey of the sandbox that will open them
   * @returns `undefined` for a function without secrets
   */
  acquire(signed: SignedManifest, wrappingKey: () => Promise<string>): Promise<SecretsUse | undefined>;
}

export function secretHost(deps: {
  readonly keys: SecretClient & Pick<KeyClient, 'leaseRemainingMs'>;
  readonly watch: LeaseWatch;
  readonly drops: DropReports;
  readonly leaseClockMs: () => number;
  readonly log: (event: string, fields?: Readonly<Record<string, string | number>>) => void;
}): SecretHost {
  return {
    async acquire(signed, wrappingKeyOf) {
      const { secrets } = signed.manifest;
      if (secrets === undefined) return undefined;
      const { kms } = secrets;
      const subject = { functionManifest: signed.jws, wrappingKey: await wrappingKeyOf() };
      const first = await deps.keys.releaseSecrets(kms, subject);
      const { lease, wrapped, challenge } = first;
      if (wrapped === undefined) throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS released no secrets');

      const [changed, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      let endsAt = first.endsAt;
      let reason = 'CFN_LEASE_ENDED';
      let gone = false;
      const held = holdLease(kms, first, {
        watch: deps.watch,
        leaseClockMs: deps.leaseClockMs,
        renew: () => deps.keys.releaseSecrets(kms, { ...subject, renew: lease }),
        remainingMs: () => deps.keys.leaseRemainingMs(kms, lease),
        onTerm: (at) => (endsAt = at),
      });
      let end: NodeJS.Timeout | undefined;
      // Wakes now and then, because a timer does not see a suspend.
      const awaitEnd = (): void => {
        const leftMs = endsAt - deps.leaseClockMs();
        if (leftMs <= 0) return ended.resolve();
        end = setTimeout(awaitEnd, Math.min(leftMs, LEASE_WAKE_MS));
        end.unref();
      };
      void held.ended.then(({ code }) => {
        reason = code;
        if (gone) return;
        deps.log('secrets.ended', { version: signed.version, code });
        if (endsAt > deps.leaseClockMs()) changed.resolve();
        awaitEnd();
      });
      return {
        wrapped,
        challenge,
        changed: changed.promise,
        ended: ended.promise,
        dropped() {
          gone = true;
          held.end(new CfnError('CFN_LEASE_ENDED', 'given back'));
          clearTimeout(end);
          deps.drops.report(kms, lease, reason, 0);
        },
      };
    },
  };
}
