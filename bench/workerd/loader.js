import bundle from 'bundle';

let count = 0;

/** Each request gets an isolate of its own, by the name that nobody has used before. */
export default {
  fetch(request, env) {
    const worker = env.LOADER.get(`fresh-${count++}`, () => ({
      compatibilityDate: '2026-01-01',
      mainModule: 'bundle.js',
      modules: { 'bundle.js': bundle },
      globalOutbound: null,
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
