// Runs inside the isolate in front of harness and test, in one script with them: an isolate drains its microtasks after each script, and
// the harness would take that for the end of the tests. The handler (page.ts) leaves PAGE for it.
{
  const { files, href, timeoutMs, answer } = globalThis.PAGE;
  delete globalThis.PAGE;
  const { fetch: platformFetch, Response, URL, setTimeout } = globalThis;
  const { stringify } = JSON;
  const { origin, protocol, host, hostname, port, pathname, search } = new URL(href);
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true });
  const location = { href, origin, protocol, host, hostname, port, pathname, search, hash: '', toString: () => href };
  define('location', location);
  define('GLOBAL', { isWindow: () => false, isWorker: () => false, isShadowRealm: () => false });

  /** The checkout's files; everything else is left to the platform. */
  define('fetch', async (input, init) => {
    const url = new URL(`${input?.url ?? input}`, href);
    if (url.origin !== origin) return platformFetch(input, init);
    const path = decodeURIComponent(url.pathname);
    if (!Object.hasOwn(files, path)) {
      answer(stringify({ missing: path })); // the file is run again, and has it then
      return new Promise(() => {});
    }
    if (files[path] === null) return new Response(null, { status: 404 });
    return new Response(Uint8Array.from(files[path], (unit) => unit.charCodeAt(0)));
  });

  define('CFN_WPT_WATCH', () => {
    delete globalThis.CFN_WPT_WATCH;
    // After the harness has looked: idlharness.js has to know which interfaces to ask for.
    define(
      'DedicatedWorkerGlobalScope',
      class {
        static [Symbol.hasInstance](value) {
          return value === globalThis;
        }
      },
    );
    add_completion_callback((tests, harness) => {
      const results = tests.map(({ name, status, message }) => ({ name, status, message }));
      answer(stringify({ harness: { status: harness.status, message: harness.message }, tests: results }));
    });
    const { timeout } = globalThis;
    setTimeout(() => timeout(), timeoutMs);
  });
}
