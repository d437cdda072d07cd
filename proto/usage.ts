import { z } from 'zod';
import { csv } from './csv.ts';

export const USAGE_BY = ['function', 'tenant', 'model'] as const;
export const usageBySchema = z.enum(USAGE_BY);
export type UsageBy = z.infer<typeof usageBySchema>;

const count = z.int().nonnegative();

/** Sums over receipts. All are integers, so that they are exact and the same in every order; a sum over 2^53 is refused. */
export const usageRowSchema = z.strictObject({
  /** A tenant, tenant/function, or owner/name@version; empty for refusals of versions that the worker did not know. */
  subject: z.string(),
  requests: count,
  /** Of these, with another outcome than `ok`. */
  failed: count,
  engineCalls: count,
  engineMicroseconds: count,
  /** This and what follows is not told by model: it is of the request as a whole. */
  cpuMicroseconds: count.optional(),
  /** Sealed. */
  requestBytes: count.optional(),
  responseBytes: count.optional(),
  /** To and from hosts that the function fetched from, inside TLS. */
  egressBytes: count.optional(),
});
export type UsageRow = z.infer<typeof usageRowSchema>;

/** A page of `GET /v1/usage`. */
export const usageAnswerSchema = z.strictObject({
  by: usageBySchema,
  /** Starts of hours, RFC 3339; `to` is not included. */
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  /** All these hours are sealed: the sums are what they will ever be. */
  final: z.boolean(),
  usage: z.array(usageRowSchema),
  /** There is more: ask for what comes after this subject. */
  next: z.string().optional(),
});
export type UsageAnswer = z.infer<typeof usageAnswerSchema>;

const COUNTS = ['requests', 'failed', 'engineCalls', 'engineMicroseconds'] as const;
const OF_REQUESTS = ['cpuMicroseconds', 'requestBytes', 'responseBytes', 'egressBytes'] as const;

/** Columns as in JSON; those that are not told by model are left out there. */
export function usageCsv(by: UsageBy, rows: readonly UsageRow[]): string {
  const counts = by === 'model' ? COUNTS : [...COUNTS, ...OF_REQUESTS];
  return csv([[by, ...counts], ...rows.map((row) => [row.subject, ...counts.map((name) => row[name] ?? 0)])]);
}
