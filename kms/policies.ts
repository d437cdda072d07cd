import { parseWorkerPolicy, policyDigest, type AppraisalPolicy } from '../attestation/verifier/index.ts';
import type { KeyStore } from './store.ts';

export interface KnownPolicy {
  readonly policy: AppraisalPolicy;
  /** Every release and lease names it. */
  readonly digest: string;
}

/** By which policy workers are appraised that ask for an owner's keys: the owner's own, or the KMS's. */
export interface Policies {
  of(owner: string | undefined): Promise<KnownPolicy>;
}

/** @param own the KMS's */
export function openPolicies(own: KnownPolicy, store: Pick<KeyStore, 'owner'>): Policies {
  /** Of each owner, the newest one seen: parsing takes longer than reading. */
  const parsed = new Map<string, KnownPolicy & { readonly text: string }>();
  return {
    async of(owner) {
      const text = owner === undefined ? undefined : (await store.owner(owner))?.policy;
      if (owner === undefined || text === undefined) return own;
      const known = parsed.get(owner);
      if (known?.text === text) return known;
      const fresh = { ...(await parsePolicy(JSON.parse(text))), text };
      parsed.set(owner, fresh);
      return fresh;
    },
  };
}

/** @throws {CfnError} `CFN_POLICY_INVALID` */
export async function parsePolicy(value: unknown): Promise<KnownPolicy> {
  const policy = parseWorkerPolicy(value);
  return { policy, digest: await policyDigest(policy) };
}
