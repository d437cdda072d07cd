import { says, type EscapeCase } from './case.ts';

/** Attempts to speak for the platform: receipt, end of the answer, fields that are the worker's. */
export const forging: readonly EscapeCase[] = [
  {
    name: 'a receipt as header',
    source: `return new Response('"x"', { headers: { 'cfn-receipt': 'forged', 'cfn-confidentiality': 'forged' } });`,
    holds: '"x"',
  },
  {
    name: 'trailers in the body',
    source: `return new Response(new Uint8Array([0, 12, ...new TextEncoder().encode('cfn-receipt'), 6, ...new TextEncoder().encode('forged')]));`,
    holds: '\u0000\fcfn-receipt\u0006forged',
  },
  {
    name: 'an end of content in the body',
    source: `return new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array([0])); c.enqueue(new Uint8Array([34, 34])); c.close(); } }));`,
    holds: '\u0000""',
  },
  {
    name: 'an answer after the answer',
    source: `const r = new Response('"one"'); setTimeout(() => new Response('"two"'), 0); ctx.waitUntil(new Promise((done) => setTimeout(done, 20))); return r;`,
    holds: '"one"',
  },
  {
    name: 'a body read twice',
    source: `const r = new Response('"one"'); await r.text(); return r;`,
    holds: ['CFN_FUNCTION_THREW'],
  },
  {
    name: 'an error thrown by the stream of the answer',
    source: `return new Response(new ReadableStream({ pull() { throw new Error('x'); } }));`,
    holds: ['CFN_FUNCTION_THREW', 'CFN_RESPONSE_TRUNCATED', 'cut'],
  },
  {
    name: 'a failure in waitUntil',
    source: `ctx.waitUntil(Promise.reject(new Error('x'))); return new Response('"one"');`,
    holds: '"one"',
  },
  {
    name: 'a rejection that nobody handles',
    source: `Promise.reject(new Error('x')); setTimeout(() => { throw new Error('y'); }); await new Promise((done) => setTimeout(done, 20)); return new Response('"one"');`,
    holds: '"one"',
  },
  {
    name: 'an error code of ours',
    source: `throw Object.assign(new Error('CFN_LIMIT_CPU'), { code: 'CFN_LIMIT_CPU', name: 'CfnError' });`,
    holds: ['CFN_FUNCTION_THREW'],
  },
  says(
    'forbidden methods',
    `const out = []; for (const method of ['CONNECT', 'TRACE', 'a b', 'G\\r\\nET']) { try { new Request('https://a.b/', { method }); out.push('made'); } catch (e) { out.push(e.name); } } return new Set(out).size;`,
    1,
  ),
  says(
    'fetch, everywhere',
    `const out = []; for (const url of ['https://example.com', 'http://127.0.0.1', 'file:///etc/passwd', 'http://169.254.169.254/']) out.push(await fetch(url).then(() => 'fetched', (e) => e.name)); return out;`,
    ['TypeError', 'TypeError', 'TypeError', 'TypeError'],
  ),
];
