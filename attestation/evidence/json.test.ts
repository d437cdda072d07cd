import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Refusal, type Reason } from './reasons.ts';
import { parseJson, parseJsonDocument, parseJsonObject } from './json.ts';

const limits = { what: 'document', charactersMax: 4096 };
const refused = (reason: Reason) => expect.objectContaining({ reason }) as Error;

test('gives what JSON.parse gives, and the exact text of each outermost member', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(4), (object, indent) => {
      const text = JSON.stringify(object, undefined, indent);
      fc.pre(text.length <= limits.charactersMax && !text.includes('__proto__'));
      const { value, members } = parseJsonDocument(text, limits);
      const parsed = JSON.parse(text) as Record<string, unknown>;
      expect(value).toEqual(parsed);
      expect([...members.keys()].toSorted()).toEqual(Object.keys(parsed).toSorted());
      for (const [name, member] of members) {
        expect(text).toContain(member);
        expect(JSON.parse(member)).toEqual(Object.getOwnPropertyDescriptor(parsed, name)?.value);
      }
    }),
    { numRuns: 300 },
  );
});

test('refuses a member named twice, wherever it stands and however it is written', () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '[{"b":{"c":[{"d":1,"d":1}]}}]',
    '{"":1,"":1}',
    '{"a":{},"b":[],"a":null}',
  ])
    expect(() => parseJson(text, limits), text).toThrow(refused('parse/duplicate'));
  for (const text of [
    '{"a":{"a":{"a":["a","a"]}}}',
    '[{"a":1},{"a":1}]',
    '{"a":"b\\",\\"a\\":1"}',
    '{"a":"{\\"a\\":1}","b":"\\\\"}',
  ])
    expect(parseJson(text, limits), text).toEqual(JSON.parse(text));
});

test('refuses what is too long, too deep, no JSON or no object', () => {
  expect(() => parseJson(`"${'a'.repeat(4095)}"`, limits)).toThrow(refused('parse/length'));
  expect(parseJson(`"${'a'.repeat(4094)}"`, limits)).toHaveLength(4094);
  expect(() => parseJson('['.repeat(65) + ']'.repeat(65), limits)).toThrow(refused('parse/length'));
  expect(parseJson('['.repeat(64) + ']'.repeat(64), limits)).toHaveLength(1);
  for (const text of ['', '{', '{"a":1,}', "{'a':1}", '{"a":1}x', 'NaN', '\ufeff{}'])
    expect(() => parseJson(text, limits), text).toThrow(refused('parse/json'));
  for (const text of ['{"__proto__":1}', '[{"__pr\\u006fto__":{}}]'])
    expect(() => parseJson(text, limits), text).toThrow(refused('parse/json'));
  for (const text of ['[]', '1', 'null', '"a"'])
    expect(() => parseJsonObject(text, limits), text).toThrow(refused('parse/json'));
});

test('no text crashes it', () => {
  const piece = fc.constantFrom('{', '}', '[', ']', ':', ',', '"', '\\', 'a', '1', ' ', 'null', '"a"', '\\u0061');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 24 }), (pieces) => {
      try {
        parseJsonDocument(pieces.join(''), limits);
      } catch (error) {
        expect(error).toBeInstanceOf(Refusal);
      }
    }),
    { numRuns: 2000 },
  );
});
