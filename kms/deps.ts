import type { appraise, appraiseClient, ClientOptions } from '../attestation/verifier/index.ts';
import type { Challenges } from './challenges.ts';
import type { Sessions } from './kbs/sessions.ts';
import type { LeaseFeed } from './lease-feed.ts';
import type { openManifests } from './known-manifests.ts';
import type { Policies } from './policies.ts';
import type { Rates } from './rates.ts';
import type { Refusals } from './refusals.ts';
import type { RootKey } from './root-key.ts';
import type { SealingKey } from './sealing-key.ts';
import type { KeyStore } from './store.ts';

/** What the parts of the KMS work with; `main.ts` makes it, tests make their own. */
export interface KmsDeps {
  readonly now: () => Date;
  /** Cryptographically secure. */
  readonly randomBytes: (length: number) => Uint8Array;
  readonly store: KeyStore;
  readonly rootKey: RootKey;
  readonly sealingKey: SealingKey;
  readonly challenges: Challenges;
  readonly appraise: typeof appraise;
  /** Clients of the key broker protocol. */
  readonly kbs: {
    readonly sessions: Sessions;
    readonly appraiseClient: typeof appraiseClient;
    readonly endorse: ClientOptions['endorse'];
  };
  readonly policies: Policies;
  readonly manifests: ReturnType<typeof openManifests>;
  /** Releases of each namespace. */
  readonly rates: Rates;
  readonly refusals: Refusals;
  readonly feed: LeaseFeed;
  /** Raw Ed25519, base64url: who signs the checkpoints of audit logs. */
  readonly auditKey: string;
}
