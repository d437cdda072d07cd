import type { Used } from '../store/index.ts';
import { SLOTS_MS, type QuotaBook } from './book.ts';

interface Page {
  level: number;
  atMs: number;
  /** Slots of each gateway. */
  readonly held: Map<string, { slots: number; untilMs: number }>;
  used: Map<string, Map<string, Used>>;
}

/** The book of one gateway alone, or of several in one process. */
export function memoryBook(monotonicMs: () => number, slotsMs = SLOTS_MS): QuotaBook {
  const pages = new Map<string, Page>();

  function takeTokens(page: Page, nowMs: number, rate: { perSecond: number; burst: number; wanted: number }) {
    page.level = Math.min(rate.burst, page.level + (Math.max(0, nowMs - page.atMs) * rate.perSecond) / 1000);
    page.atMs = nowMs;
    const tokens = Math.min(rate.wanted, Math.floor(page.level));
    page.level -= tokens;
    return { tokens, retryMs: tokens < rate.wanted ? Math.ceil(((1 - page.level) * 1000) / rate.perSecond) : 0 };
  }

  return {
    async settle(tenant, { gateway, rate, slots, periods }) {
      const nowMs = monotonicMs();
      let page = pages.get(tenant);
      if (page === undefined) {
        page = { level: Number.POSITIVE_INFINITY, atMs: nowMs, held: new Map(), used: new Map() };
        pages.set(tenant, page);
      }
      const taken = rate === undefined ? { tokens: 0, retryMs: 0 } : takeTokens(page, nowMs, rate);

      let others = 0;
      for (const [name, { slots: count, untilMs }] of page.held) {
        if (untilMs <= nowMs) page.held.delete(name);
        else if (name !== gateway) others += count;
      }
      const held =
        slots === undefined ? 0 : Math.max(slots.inUse, Math.min(slots.wanted, Math.max(0, slots.max - others)));
      page.held.set(gateway, { slots: held, untilMs: nowMs + slotsMs });

      const before = page.used;
      page.used = new Map(periods.map(({ id, used }) => [id, new Map(before.get(id)).set(gateway, used)]));
      const used = [...page.used.values()].map((counts) => [...counts.values()].reduce(sum));
      return { ...taken, slots: held, gateways: page.held.size, used };
    },
  };
}

const sum = (a: Used, b: Used): Used => ({
  requests: a.requests + b.requests,
  engineMs: a.engineMs + b.engineMs,
  bytes: a.bytes + b.bytes,
});
