import { z } from 'zod';

const countSchema = z.int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const periodSchema = z.strictObject({
  requests: countSchema.optional(),
  /** Time of engines, in ms. */
  engineMs: countSchema.optional(),
  /** Of requests and answers, as they travel. */
  bytes: countSchema.optional(),
});

/** What the operator lets a tenant's functions use, over all gateways. What is absent has no limit. */
export const tenantLimitsSchema = z
  .strictObject({
    requestsPerSecond: z.number().min(0.001).max(1_000_000).optional(),
    /** Requests at once after a pause; absent: one second's worth. */
    burst: z.int().min(1).max(1_000_000).optional(),
    /** Requests under way. */
    concurrency: z.int().min(1).max(1_000_000).optional(),
    /** Of the calendar, UTC. */
    day: periodSchema.optional(),
    month: periodSchema.optional(),
  })
  .refine(({ burst, requestsPerSecond }) => burst === undefined || requestsPerSecond !== undefined, {
    path: ['burst'],
    message: 'there is no burst without requestsPerSecond',
  });
export type TenantLimits = z.infer<typeof tenantLimitsSchema>;

export const burstOf = ({ burst, requestsPerSecond = 1 }: TenantLimits): number =>
  burst ?? Math.max(1, Math.ceil(requestsPerSecond));

export type PeriodName = 'day' | 'month';

/** A day or month of the calendar, UTC. */
export interface Period {
  readonly name: PeriodName;
  /** `2026-11-23`, or `2026-11` */
  readonly id: string;
  readonly startsAt: Date;
  readonly endsAt: Date;
}

export function periodOf(name: PeriodName, now: Date): Period {
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const [startsAt, endsAt] =
    name === 'day'
      ? [new Date(Date.UTC(year, month, day)), new Date(Date.UTC(year, month, day + 1))]
      : [new Date(Date.UTC(year, month)), new Date(Date.UTC(year, month + 1))];
  return { name, id: startsAt.toISOString().slice(0, name === 'day' ? 10 : 7), startsAt, endsAt };
}
