/** What was read of the shared store, until somebody changes it. */
export interface View {
  /**
   * What is known of the subject, or what `read` gives. One read at a time for each subject. `undefined` says that there is nothing: anybody
   * can ask for what is not there, so that is remembered in a small place of its own, where it drives nothing out.
   */
  get<T>(subject: string, read: () => Promise<T>): Promise<T>;
  drop(subject: string): void;
  clear(): void;
}

/**
 * @param isCurrent whether what is known may be used; where not, every call reads
 * @param entriesMax the oldest makes room: it is read again when it is asked for
 */
export function view(isCurrent: () => boolean, entriesMax: number, absentMax: number): View {
  const reading = new Map<string, Promise<unknown>>();
  const known = new Map<string, Promise<unknown>>();
  const absent = new Map<string, Promise<unknown>>();

  function keep(subject: string, read: Promise<unknown>, value: unknown): void {
    const [place, max] = value === undefined ? [absent, absentMax] : [known, entriesMax];
    if (place.size >= max) place.delete(place.keys().next().value ?? '');
    place.set(subject, read);
  }
  return {
    get<T>(subject: string, read: () => Promise<T>): Promise<T> {
      if (!isCurrent()) return read();
      const held = known.get(subject) ?? absent.get(subject) ?? reading.get(subject);
      if (held !== undefined) return held as Promise<T>; // each subject has one kind of value
      const begun = read();
      // A change that comes while it is read takes it out of here: what was read then is given once, and not kept.
      reading.set(subject, begun);
      const ended = (): boolean => reading.get(subject) === begun && reading.delete(subject);
      begun.then((value) => ended() && keep(subject, begun, value), ended);
      return begun;
    },
    drop(subject) {
      for (const place of [reading, known, absent]) place.delete(subject);
    },
    clear() {
      for (const place of [reading, known, absent]) place.clear();
    },
  };
}
