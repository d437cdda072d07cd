let origin = 0;
let latest = 0;

/** Called when an isolate is made ready: a snapshot has the time of its making. */
export function startClock(): void {
  origin = Date.now();
  latest = 0;
}
export const timeOrigin = (): number => origin;
/** Whole milliseconds: a finer clock helps to measure other tenants. Never goes back. */
export const elapsedMs = (): number => (latest = Math.max(latest, Date.now() - origin));
