import type { Used } from '../store/index.ts';

/** What one gateway has of a tenant, and what more it asks for. */
export interface Account {
  /** The gateway, by an id of this run of it. */
  readonly gateway: string;
  /** `wanted`: requests that it means to let through soon. */
  readonly rate?: { readonly perSecond: number; readonly burst: number; readonly wanted: number } | undefined;
  /** `inUse`: requests under way; `wanted`: as many as it would hold room for, those among them. */
  readonly slots?: { readonly max: number; readonly inUse: number; readonly wanted: number } | undefined;
  /** What it counted, from its start or the period's on: told anew in full, so that telling it twice counts once. */
  readonly periods: readonly { readonly id: string; readonly keepSeconds: number; readonly used: Used }[];
}

export interface Settlement {
  /** Requests that may be let through: `wanted`, or fewer. */
  readonly tokens: number;
  /** When there is one more, in ms; of interest where there were fewer. */
  readonly retryMs: number;
  /** Held by this gateway until it settles again, or for {@link SLOTS_MS} of silence. */
  readonly slots: number;
  /** That settled in the last {@link SLOTS_MS} for this tenant, this one among them. */
  readonly gateways: number;
  /** By all gateways, in the order of the periods. */
  readonly used: readonly Used[];
}

/**
 * The account of all gateways for the limits of tenants; not durable. Tokens and slots are given out once, in one step with all that
 * is asked: the sum of what gateways hold is never over the limit. Slots of a gateway that is silent come back.
 */
export interface QuotaBook {
  /** Rejects when the book cannot be reached; may take as long as the network does. */
  settle(tenant: string, account: Account): Promise<Settlement>;
}

/** How long slots are held for a gateway that does not say that it lives, in ms. */
export const SLOTS_MS = 10_000;
