import { CfnError, toCfnError, toHex } from '../../proto/index.ts';
import { LIMITS_CACHE_MS, QUOTA } from '../limits.ts';
import type { Log } from '../log.ts';
import type { Store, Used } from '../store/index.ts';
import type { QuotaBook } from './book.ts';
import { periodOf, tenantLimitsSchema, type PeriodName, type TenantLimits } from './tenant-limits.ts';
import { TenantShare, type Refusal } from './tenant-share.ts';

/** Keeps tenants to what the operator lets them use. */
export interface Quotas {
  /** Lets a request through; call what it gives when the request is over. */
  admit(
    tenant: string,
  ): Promise<{ readonly refusal: Refusal } | { readonly refusal: undefined; readonly release: () => void }>;
  /** What a receipt said was used. */
  add(tenant: string, used: Pick<Used, 'engineMs' | 'bytes'>): void;
  /** Sets limits; they count here at once, at other gateways within {@link LIMITS_CACHE_MS}. @throws {CfnError} `CFN_TENANT_NOT_FOUND` */
  set(tenant: string, limits: TenantLimits): Promise<void>;
  standing(tenant: string): Promise<Standing>;
  stop(): void;
}

export interface Standing {
  readonly limits: TenantLimits;
  /** This day and month, UTC, by all gateways; absent for a tenant without limits, for which nobody counts. */
  readonly used?: Readonly<Record<PeriodName, Used>>;
}

interface Known {
  limits: TenantLimits;
  untilMs: number;
  share: TenantShare | undefined;
  refreshing: Promise<void> | undefined;
}

const FREE = { refusal: undefined, release: (): void => undefined };

/** @param usedSince what was used before this run, where the book does not outlast it */
export function quotas(deps: {
  readonly store: Pick<Store, 'limits' | 'setLimits'>;
  readonly book: QuotaBook;
  readonly usedSince?: (tenant: string, since: string) => Promise<Used>;
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
}): Quotas {
  const { store, book, now, monotonicMs, log } = deps;
  const gateway = toHex(deps.randomBytes(8));
  // A tenant's count is told in full each time, so a share is kept as long as the gateway runs.
  const known = new Map<string, Known>();
  const opening = new Map<string, Promise<Known>>();
  let saidMs = Number.NEGATIVE_INFINITY;

  const onAway = (cause: unknown): void => {
    if (monotonicMs() - saidMs < 10_000) return;
    saidMs = monotonicMs();
    log('quota.away', { code: toCfnError(cause).code });
  };

  const ticker = setInterval(() => {
    for (const { share } of known.values()) if (share?.isStale() === true) void share.settle();
  }, QUOTA.tickMs).unref();

  async function read(tenant: string): Promise<TenantLimits> {
    const text = await store.limits(tenant);
    try {
      return text === undefined ? {} : tenantLimitsSchema.parse(JSON.parse(text));
    } catch (cause) {
      throw new CfnError('CFN_STORE_FAILED', `the limits of tenant ${tenant} cannot be read`, { cause });
    }
  }

  async function open(tenant: string): Promise<Known> {
    const made: Known = { limits: {}, untilMs: 0, share: undefined, refreshing: undefined };
    await apply(made, tenant, await read(tenant));
    known.set(tenant, made);
    return made;
  }

  async function apply(it: Known, tenant: string, limits: TenantLimits): Promise<void> {
    it.limits = limits;
    it.untilMs = monotonicMs() + LIMITS_CACHE_MS;
    if (it.share !== undefined) it.share.limits = limits;
    else if (Object.keys(limits).length > 0) {
      const before = (name: PeriodName): Promise<Used> =>
        deps.usedSince?.(tenant, periodOf(name, now()).startsAt.toISOString()) ??
        Promise.resolve({ requests: 0, engineMs: 0, bytes: 0 });
      const counted = { day: await before('day'), month: await before('month') };
      it.share ??= new TenantShare(tenant, limits, counted, { book, gateway, now, monotonicMs, onAway });
    }
  }

  /** Waits for the store for a tenant not heard of before; later what was known goes on while it is read anew. */
  function find(tenant: string): Known | Promise<Known> {
    const it = known.get(tenant);
    if (it === undefined) {
      let made = opening.get(tenant);
      if (made === undefined) opening.set(tenant, (made = open(tenant).finally(() => opening.delete(tenant))));
      return made;
    }
    if (monotonicMs() >= it.untilMs) {
      it.refreshing ??= read(tenant)
        .then((limits) => apply(it, tenant, limits))
        .catch((cause: unknown) => {
          it.untilMs = monotonicMs() + LIMITS_CACHE_MS; // what was known still counts
          log('limits.unread', { tenant, code: toCfnError(cause).code });
        })
        .finally(() => (it.refreshing = undefined));
    }
    return it;
  }

  return {
    async admit(tenant) {
      const { share } = await find(tenant);
      if (share === undefined) return FREE;
      const refusal = await share.admit();
      if (refusal !== undefined) return { refusal };
      let held = true;
      return {
        refusal: undefined,
        release() {
          if (held) share.release();
          held = false;
        },
      };
    },
    add(tenant, { engineMs, bytes }) {
      known.get(tenant)?.share?.add({ requests: 0, engineMs, bytes });
    },
    async set(tenant, limits) {
      await store.setLimits(tenant, JSON.stringify(limits));
      await apply(await find(tenant), tenant, limits);
    },
    async standing(tenant) {
      const { limits, share } = await find(tenant);
      if (share === undefined) return { limits };
      await share.settle();
      return { limits, used: share.used() };
    },
    stop: () => clearInterval(ticker),
  };
}
