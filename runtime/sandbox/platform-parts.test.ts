import ivm from 'isolated-vm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PARTS, type PartName } from './platform/parts.ts';
import { makeSnapshot, partsNamedIn, readPlatform, type PlatformSource } from './platform-image.ts';
import { buildPlatformSource, refuseShared } from './platform-source.ts';
import { startTestSandbox, type TestSandbox } from './testing.ts';

const globals = Object.values(PARTS).flatMap((part) => part.globals as readonly string[]);
/** The names put together, so that the bundle does not say them. */
const hidden = JSON.stringify(globals.map((name) => name.split('').toReversed().join('')));
/** Those that are no classes or functions. */
const objects: readonly string[] = ['console', 'crypto', 'navigator', 'performance'];
const describeGlobals = `(names) => Object.fromEntries(names.map((name) => {
  const { value, get, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(globalThis, name);
  return [name, { lazy: get !== undefined, has: name in globalThis, type: typeof value, name: value?.name, writable, enumerable, configurable }];
}))`;

let source: PlatformSource;
beforeAll(async () => {
  source = readPlatform(await buildPlatformSource());
});

describe('globals of parts', () => {
  const plain = (name: string) => ({
    lazy: false,
    has: true,
    type: objects.includes(name) ? 'object' : 'function',
    ...(objects.includes(name) ? {} : { name }),
    writable: true,
    enumerable: false,
    configurable: true,
  });

  test('are plain properties before the bundle is evaluated, where it names them', async () => {
    const sandbox = await startTestSandbox(
      `const seen = (${describeGlobals})(${JSON.stringify(globals)}); export default { fetch: () => Response.json(seen) };`,
    );
    const seen: unknown = JSON.parse((await sandbox.call()).body);
    await sandbox.close();
    expect(seen).toEqual(Object.fromEntries(globals.map((name) => [name, plain(name)])));
  });
  test.each([[[]], [['--no-isolate-snapshot']]])('become so when they are touched: %s', async (flags: string[]) => {
    const sandbox = await startTestSandbox(
      `const names = ${hidden}.map((name) => [...name].reverse().join(''));
       const describeGlobals = ${describeGlobals};
       export default { fetch() {
         const before = describeGlobals(names);
         for (const name of names) globalThis[name];
         return Response.json([before, describeGlobals(names)]);
       } };`,
      { flags },
    );
    const [before, after] = JSON.parse((await sandbox.call()).body) as [Record<string, unknown>, unknown];
    await sandbox.close();
    for (const name of globals) expect(before[name], name).toMatchObject({ lazy: true, has: true, enumerable: false });
    expect(after).toEqual(Object.fromEntries(globals.map((name) => [name, plain(name)])));
  });
});

describe('a part that is loaded while a function runs', () => {
  let sandbox: TestSandbox;
  const at = (reversed: string): string => `globalThis[[...'${reversed}'].reverse().join('')]`;
  const cases = {
    'works with what else is loaded': `new Response(new (${at('maertSelbadaeR')})({ start(c) { c.enqueue(new TextEncoder().encode('ok')); c.close(); } })).text()`,
    'is the same however it is reached': `${at('maertSelbadaeR')} === new Response('').body.constructor`,
    'reads domains that need tables': `new (${at('LRU')})('https://m\u00fcnchen.de').hostname`,
    'leaves what the function has put in place of it': `(() => { ${at('eliF')} = 'mine'; ${at('bolB')}; return ${at('eliF')}; })()`,
    'is not compiled, nor defined, by what the function has put in place of it': `(() => {
      const name = [...'enolCderutcurts'].reverse().join('');
      const seen = [];
      const spy = (what) => function () { seen.push(what); };
      const { Function: F, eval: e, Object: O, Reflect: R, Symbol: S } = globalThis;
      Object.assign(globalThis, { Function: spy('Function'), eval: spy('eval'), Reflect: {}, Symbol: spy('Symbol'), Object: spy('Object') });
      const type = typeof globalThis[name];
      O.assign(globalThis, { Function: F, eval: e, Object: O, Reflect: R, Symbol: S });
      return [type, seen];
    })()`,
    'says nothing of itself': `Object.getOwnPropertyNames(globalThis).filter((name) => /boot|part|require|module|core/i.test(name))`,
  };
  const answers: Record<keyof typeof cases, unknown> = {
    'works with what else is loaded': 'ok',
    'is the same however it is reached': true,
    'reads domains that need tables': 'xn--mnchen-3ya.de',
    'leaves what the function has put in place of it': 'mine',
    'is not compiled, nor defined, by what the function has put in place of it': ['function', []],
    'says nothing of itself': [],
  };
  beforeAll(async () => {
    const entries = Object.entries(cases).map(([name, code]) => `${JSON.stringify(name)}: async () => (${code})`);
    sandbox = await startTestSandbox(
      `const { stringify } = JSON; const cases = { ${entries.join(',\n')} };
       export default { async fetch(request) { return new Response(stringify(await cases[await request.text()]())); } };`,
    );
  });
  afterAll(() => sandbox.close());

  test.each(Object.keys(cases) as (keyof typeof cases)[])('%s', async (name) => {
    const answer = await sandbox.call({ method: 'POST', body: name });
    expect(answer.done.code).toBeUndefined();
    expect(JSON.parse(answer.body)).toEqual(answers[name]);
  });
});

describe('the build', () => {
  test('finds the parts that a bundle names, and no others', () => {
    expect(partsNamedIn('new URL(x)')).toEqual(['url']);
    expect(partsNamedIn('myURL; URLs; $URL; curl')).toEqual([]);
  });
  test('refuses a module in two parts', () => {
    const part = (name: PartName, ...inputs: string[]) => ({ name, inputs, source: '', imported: new Set<string>() });
    expect(() => refuseShared([part('url', 'a.ts'), part('blob', 'b.ts')])).not.toThrow();
    expect(() => refuseShared([part('url', 'a.ts'), part('blob', 'a.ts', 'b.ts')])).toThrow(/url and blob/);
  });
  test('keeps the core small: each fresh isolate is made of it, twice', () => {
    const bare = ivm.Isolate.createSnapshot([{ code: '' }]).copy().byteLength;
    const core = makeSnapshot(source, []).copy().byteLength - bare;
    expect(core).toBeLessThan(232 * 1024);
    expect(core).toBeGreaterThan(50 * 1024); // it is there
  });
});
