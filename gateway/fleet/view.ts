/** What was read of the shared store, until somebody changes it. */
export interface View {
  /** What is known of the subject, or what `read` gives. One read at a time for each subject. */
  get<T>(subject: string, read: () => Promise<T>): Promise<T>;
  drop(subject: string): void;
  clear(): void;
}

/**
 * @param isCurrent whether what is known may be used; where not, every call reads
 * @param entriesMax the oldest makes room: it is read again when it is asked for
 */
export function view(isCurrent: () => boolean, entriesMax: number): View {
  const entries = new Map<string, Promise<unknown>>();
  return {
    get<T>(subject: string, read: () => Promise<T>): Promise<T> {
      if (!isCurrent()) return read();
      // Each subject has one kind of value.
      const known = entries.get(subject) as Promise<T> | undefined;
      if (known !== undefined) return known;
      if (entries.size >= entriesMax) entries.delete(entries.keys().next().value ?? '');
      const reading = read();
      // A change that comes while it is read takes it out of here: what was read then is given once, and not kept.
      entries.set(subject, reading);
      reading.catch(() => {
        if (entries.get(subject) === reading) entries.delete(subject);
      });
      return reading;
    },
    drop: (subject) => void entries.delete(subject),
    clear: () => entries.clear(),
  };
}
