import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestSandbox, type TestSandbox } from './testing.ts';

/** What the platform answers to expressions, against what Node answers to the same: Node passes 99 % of the Web Platform Tests. */
const expressions = [
  `new TextDecoder().decode(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61, 0xe2, 0x82, 0xff, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 0x80, 0xc0, 0x80, 0xf4, 0x90))`,
  `(() => { const d = new TextDecoder(); return d.decode(Uint8Array.of(0xf0, 0x9f), { stream: true }) + d.decode(Uint8Array.of(0x98, 0x80)) + d.decode(Uint8Array.of(0xe2)); })()`,
  `(() => { try { return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.of(0xff)); } catch (e) { return e.name; } })()`,
  `Array.from(new TextEncoder().encode('aé€😀\\ud800'))`,
  `new TextEncoder().encodeInto('a€😀', new Uint8Array(5))`,
  `[btoa('\\xff\\x00a'), atob(' /wBh '), atob('YQ'), btoa('')]`,
  `['YQ=', 'Y', '%'].map((s) => { try { return atob(s); } catch (e) { return e.name; } })`,
  `new URL('../b?q=ü#f', 'HTTP://User:p@EXAMPLE.com:80/x/y').href`,
  `['https://faß.example/', 'https://xn--fa-hia.example/', 'https://münchen.de/', 'https://EXAMPLE.com./%41', 'http://0x7f.1/', 'https://xn--a/', 'https://a b/'].map((u) => URL.canParse(u) ? new URL(u).href : null)`,
  `[...new URLSearchParams('a=1&b=%20+&a=ü')].concat(String(new URLSearchParams({ x: 'a b&', y: 'ü' })))`,
  `[...new Headers([['B', '1'], ['a', ' 2 '], ['b', '3'], ['set-cookie', 'x'], ['set-cookie', 'y']])]`,
  `['a b', ''].map((n) => { try { return new Headers([[n, '1']]); } catch (e) { return e.name; } })`,
  `new Response('ü').text()`,
  `new Response('{"a":1}').json()`,
  `new Response('[').json().catch((e) => e.name)`,
  `(async () => { const r = new Response('x'); const c = r.clone(); return [await r.text(), r.bodyUsed, c.bodyUsed, await c.text(), await r.text().catch((e) => e.name)]; })()`,
  `(async () => { const parts = []; for await (const p of new Response('abc').body) parts.push(Array.from(p)); return parts; })()`,
  `(async () => { const s = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1])); c.enqueue(new Uint8Array([2])); c.close(); } }); const [a, b] = s.tee(); return [Array.from(await new Response(a).bytes()), Array.from(await new Response(b).bytes())]; })()`,
  `new Response(new ReadableStream({ start(c) { c.enqueue('text'); c.close(); } })).text().catch((e) => e.name)`,
  `new Response(new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('a😀')); c.close(); } }).pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({ transform(t, c) { c.enqueue(t.toUpperCase()); } })).pipeThrough(new TextEncoderStream())).text()`,
  `[199, 600, 200.5, 204].map((status) => { try { return new Response(status === 204 ? 'x' : null, { status }).status; } catch (e) { return e.name; } })`,
  `(() => { const r = Response.json({ a: [1, null] }, { status: 201 }); return [r.status, r.ok, r.headers.get('content-type')]; })()`,
  `(() => { const r = Response.redirect('https://a.example/x y', 307); return [r.status, r.headers.get('location')]; })()`,
  `(async () => { const r = new Request('https://a.example/#f', { method: 'post', body: new URLSearchParams('a=1') }); return [r.url, r.method, r.headers.get('content-type'), await r.text()]; })()`,
  `[['GET', 'x'], ['TRACE', null], ['a b', null]].map(([method, body]) => { try { return new Request('https://a.example', { method, body }).method; } catch (e) { return e.name; } })`,
  `(async () => { const b = new Blob(['ab', new Uint8Array([99]), new Blob(['d'])], { type: 'Text/Plain' }); return [b.size, b.type, await b.text(), await b.slice(1, 3).text(), await new Response(b).text(), new File(['x'], 'n').name]; })()`,
  `(() => { const c = new AbortController(); const seen = []; c.signal.addEventListener('abort', (e) => seen.push(e.type), { once: true }); c.signal.onabort = () => seen.push('on'); c.abort(); c.abort(); return [seen, c.signal.aborted, c.signal.reason.name, AbortSignal.any([c.signal]).aborted, AbortSignal.abort('r').reason]; })()`,
  `(() => { const t = new EventTarget(); const seen = []; const f = () => seen.push('f'); t.addEventListener('a', f); t.addEventListener('a', f); t.addEventListener('a', { handleEvent(e) { seen.push(e.type); e.preventDefault(); } }); const r = t.dispatchEvent(new Event('a', { cancelable: true })); t.removeEventListener('a', f); t.dispatchEvent(new CustomEvent('a', { detail: 1 })); return [seen, r]; })()`,
  `(() => { const m = new Map([[1, new Set(['a'])]]); const o = { m, d: new Date(5), r: /a/g, b: new Uint8Array([1, 2]), e: new TypeError('t'), n: null, u: undefined }; o.self = o; const c = structuredClone(o); return [c.self === c, c.m.get(1).has('a'), c.d.getTime(), c.r.flags, Array.from(c.b), c.e.name, c.e.message, Object.keys(c)]; })()`,
  `(() => { const b = new ArrayBuffer(2); const c = structuredClone(b, { transfer: [b] }); return [b.byteLength, c.byteLength]; })()`,
  `[() => {}, Symbol()].map((v) => { try { return structuredClone(v); } catch (e) { return [e.name, e.code]; } })`,
  `[new DOMException('m', 'AbortError').code, new DOMException('m').name, new DOMException() instanceof Error]`,
  `(async () => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode('abc')))).slice(0, 4))()`,
  `crypto.subtle.digest('MD4', new Uint8Array(1)).catch((e) => e.name)`,
  `[/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()), crypto.getRandomValues(new Uint8Array(32)).some((b) => b > 0)]`,
  `(() => { try { crypto.getRandomValues(new Uint8Array(65537)); } catch (e) { return e.name; } })()`,
  `new Promise((resolve) => { const seen = []; setTimeout((v) => { seen.push(v); resolve(seen); }, 5, 'timer'); const gone = setTimeout(() => seen.push('never'), 1); clearTimeout(gone); queueMicrotask(() => seen.push('micro')); seen.push('sync'); })`,
  `new Promise((resolve) => { let n = 0; const id = setInterval(() => { if (++n === 3) { clearInterval(id); resolve(n); } }, 1); })`,
  `[performance.now() >= 0, typeof performance.timeOrigin, console.log('x') === undefined]`,
  `[Request, Response, Headers, URL, Blob, ReadableStream, TextDecoder, AbortSignal, Event, DOMException].map((c) => c.name)`,
];

let sandbox: TestSandbox;
beforeAll(async () => {
  const bundle = `const all = [${expressions.map((code) => `async () => (${code})`).join(',\n')}];
export default { async fetch(request) { return new Response(JSON.stringify(await all[Number(await request.text())]())); } };`;
  sandbox = await startTestSandbox(bundle, { poolSize: 2 });
});
afterAll(() => sandbox.close());

test.each(expressions.map((code, index) => [code, index] as const))('%s', async (code, index) => {
  const answer = await sandbox.call({ method: 'POST', body: String(index) });
  expect(answer.done.code).toBeUndefined();
  // oxlint-disable-next-line typescript/no-implied-eval -- the same expression, in Node
  const expected = JSON.stringify(await (new Function(`return (async () => (${code}))()`)() as Promise<unknown>));
  expect(answer.body).toBe(expected);
});
