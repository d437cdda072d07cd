import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import type { JWK } from 'jose';
import type { Batches } from './batches.ts';
import type { BlobStore } from './blob-folder.ts';
import type { ApiKeys } from './access/api-keys.ts';
import type { Callers } from './access/callers.ts';
import type { Caller } from './access/roles.ts';
import type { Admission } from './admission.ts';
import type { Catalogue } from './catalogue.ts';
import type { Consent } from './consent.ts';
import type { Ledger } from './ledger.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Quotas } from './quota/quotas.ts';
import type { Registry } from './registry.ts';
import type { RolloutWatch } from './rollout-watch.ts';
import type { Router } from './router.ts';
import type { Fleet } from './routing/fleet.ts';
import type { Random } from './routing/random.ts';
import type { Store } from './store/index.ts';
import type { Tokens } from './tokens.ts';
import type { RequestTrace, Tracing } from './tracing.ts';

/** What the routes work with; made once, in `service.ts`. */
export interface Gateway {
  readonly store: Store;
  /** Whether calls are answered, for a while, by what is known of a shared store that is away. */
  readonly servesWithoutStore: () => boolean;
  readonly blobs: BlobStore;
  readonly registry: Registry;
  readonly admission: Admission;
  readonly catalogue: Catalogue;
  readonly consent: Consent;
  readonly fleet: Fleet;
  readonly router: Router;
  readonly rollouts: RolloutWatch;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly quotas: Quotas;
  readonly batches: Batches;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly tokens: Tokens;
  readonly keys: ApiKeys;
  readonly callers: Callers;
  /** Public key of the attestation results that this gateway signs. */
  readonly resultKey: JWK;
  /** Name and digest of the operator's appraisal policy. */
  readonly policy: { readonly name: string; readonly digest: string };
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
}

export interface AppEnv {
  Bindings: HttpBindings;
  Variables: {
    requestId: string;
    trace?: RequestTrace;
    /** Behind a guard (`access/guard.ts`). */
    caller: Caller;
    /** What a call is about, for the audit, where its path does not say it. */
    subject: string | undefined;
    /** Fields that the answer to a refusal brings along. */
    refusalFields: Readonly<Record<string, string>> | undefined;
  };
}
export type AppContext = Context<AppEnv>;
