/** A map of at most so many entries, each of one namespace. */
export interface FairMap<T> {
  get(id: string): T | undefined;
  delete(id: string): void;
  /** @returns what was dropped to make room */
  add(id: string, namespace: string, value: T): T | undefined;
}

/** To make room, the oldest of the namespace that has the most is dropped: having many pushes out one's own, and nobody else's. */
export function fairMap<T>(entriesMax: number): FairMap<T> {
  const namespaceOf = new Map<string, string>();
  // Maps keep the order of insertion, so the oldest comes first.
  const namespaces = new Map<string, Map<string, T>>();

  const membersOf = (id: string): Map<string, T> | undefined => namespaces.get(namespaceOf.get(id) ?? '');
  function remove(id: string): void {
    const members = membersOf(id);
    members?.delete(id);
    if (members?.size === 0) namespaces.delete(namespaceOf.get(id) ?? '');
    namespaceOf.delete(id);
  }
  function largest(): Map<string, T> {
    let found = new Map<string, T>();
    for (const members of namespaces.values()) if (members.size > found.size) found = members;
    return found;
  }
  return {
    get: (id) => membersOf(id)?.get(id),
    delete: remove,
    add(id, namespace, value) {
      const members = namespaces.get(namespace) ?? new Map<string, T>();
      namespaces.set(namespace, members.set(id, value));
      namespaceOf.set(id, namespace);
      if (namespaceOf.size <= entriesMax) return undefined;
      const [oldest] = largest();
      if (oldest === undefined) return undefined;
      remove(oldest[0]);
      return oldest[1];
    },
  };
}
