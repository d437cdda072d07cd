import { expect, test } from 'vitest';
import { canonicalJson } from './canonical-json.ts';

test('RFC 8785 §3.2.2 and §3.2.3: numbers, strings, and the order of members', () => {
  const numbers =
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"literals":[null,true,false]}';
  expect(canonicalJson(JSON.parse(numbers))).toBe(
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}',
  );
  const members = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 };
  expect(Object.values(JSON.parse(canonicalJson(members)) as object)).toHaveLength(7);
  expect([...canonicalJson(members).matchAll(/:(\d)/g)].map(([, value]) => Number(value))).toEqual([
    2, 4, 6, 7, 1, 5, 3,
  ]);
  expect(canonicalJson('\u20ac$\u000f\nA\'B"\\\\"/')).toBe('"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"');
});

test('names that look like numbers keep their place as text', () => {
  expect(canonicalJson({ b: 1, '10': 2, '9': 3 })).toBe('{"10":2,"9":3,"b":1}');
});

test('what has no such form is refused', () => {
  for (const value of ['\ud800', NaN, undefined, () => 1, { a: undefined }])
    expect(() => canonicalJson(value)).toThrow(expect.objectContaining({ code: 'CFN_INPUT_INVALID' }));
});
