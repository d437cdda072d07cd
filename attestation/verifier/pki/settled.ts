/** Begins work whose failure is looked at later: without this, a failure in between would count as one that nobody handles. */
export function settled<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}
