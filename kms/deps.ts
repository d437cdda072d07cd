import type { appraise, AppraisalPolicy } from '../attestation/verifier/index.ts';
import type { Challenges } from './challenges.ts';
import type { Keyring } from './keyring.ts';
import type { SealingKey } from './sealing-key.ts';
import type { KeyStore } from './store.ts';

/** What the parts of the KMS work with; `main.ts` makes it, tests make their own. */
export interface KmsDeps {
  readonly now: () => Date;
  /** Cryptographically secure. */
  readonly randomBytes: (length: number) => Uint8Array;
  readonly store: KeyStore;
  readonly keyring: Keyring;
  readonly sealingKey: SealingKey;
  readonly challenges: Challenges;
  readonly appraise: typeof appraise;
  readonly policy: AppraisalPolicy;
  /** Digest of `policy`, which every release and lease names. */
  readonly policyDigest: string;
}
