/** What comes of `source` until `signal` aborts, also while the source hangs. @throws what the signal aborts with */
export async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await nextOf(iterator, signal);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not waited for: a generator that hangs returns when it hangs no more.
    iterator.return?.().catch(() => undefined);
  }
}

/** A race against one promise for the whole stream would keep all that came until the end. */
function nextOf<T>(iterator: AsyncIterator<T>, signal: AbortSignal): Promise<IteratorResult<T>> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    void iterator
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', abort));
  });
}
