/** What may happen `perMinute` times a minute, and after a rest `atOnce` times. Full at first. @returns false when it is used up */
export function tokenBucket(
  { perMinute, atOnce }: { readonly perMinute: number; readonly atOnce: number },
  now: () => Date,
): () => boolean {
  let left = atOnce;
  let atMs = now().getTime();
  return () => {
    const nowMs = now().getTime();
    left = Math.min(atOnce, left + (Math.max(0, nowMs - atMs) * perMinute) / 60_000);
    atMs = nowMs;
    if (left < 1) return false;
    left--;
    return true;
  };
}
