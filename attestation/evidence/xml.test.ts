import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError, fromUtf8, utf8 } from '../../proto/index.ts';
import { attributeOf, childElements, parseXml, textOf } from './xml.ts';
import { canonicalize } from './xml-canonical.ts';

const canonical = (xml: string): string => fromUtf8(canonicalize(parseXml(utf8(xml))));

describe('parseXml', () => {
  test('resolves namespaces, references and line ends', () => {
    const root = parseXml(
      utf8(
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<a xmlns="u:a" xmlns:p="u:p" p:x="1&#x41;&lt;">t\r\nu<p:b x="2"/></a>\n',
      ),
    );
    expect(root).toMatchObject({ local: 'a', namespace: 'u:a' });
    expect(attributeOf(root, 'x', 'u:p')).toBe('1A<');
    expect(attributeOf(root, 'x')).toBeUndefined();
    expect(root.children[0]).toBe('t\nu');
    expect(root.children[1]).toMatchObject({
      local: 'b',
      namespace: 'u:p',
      attributes: [{ namespace: '', value: '2' }],
    });
  });

  test.each([
    ['a DOCTYPE', '<!DOCTYPE a><a/>', 'parse/doctype'],
    [
      'a DOCTYPE behind a declaration',
      '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
      'parse/doctype',
    ],
    ['a DOCTYPE inside', '<a><!DOCTYPE a></a>', 'parse/doctype'],
    ['a DOCTYPE behind the root', '<a/><!doctype a>', 'parse/doctype'],
    ['an entity of its own', '<a>&b;</a>', 'parse/xml'],
    ['a bare ampersand', '<a b="1&2"/>', 'parse/xml'],
    ['a reference to no character', '<a>&#0;</a>', 'parse/xml'],
    ['a reference to a surrogate', '<a>&#xD800;</a>', 'parse/xml'],
    ['a reference past Unicode', '<a>&#x110000;</a>', 'parse/xml'],
    ['a comment', '<a><!-- b --></a>', 'parse/xml'],
    ['a comment before the root', '<!-- b --><a/>', 'parse/xml'],
    ['CDATA', '<a><![CDATA[b]]></a>', 'parse/xml'],
    ['the end of a CDATA section', '<a>b]]></a>', 'parse/xml'],
    ['a processing instruction', '<a><?b c?></a>', 'parse/xml'],
    ['a stylesheet', '<?xml version="1.0"?><?xml-stylesheet href="b"?><a/>', 'parse/xml'],
    ['another encoding', '<?xml version="1.0" encoding="UTF-16"?><a/>', 'parse/xml'],
    ['XML 1.1', '<?xml version="1.1"?><a/>', 'parse/xml'],
    ['a byte order mark', '\uFEFF<a/>', 'parse/xml'],
    ['a second root', '<a/><b/>', 'parse/xml'],
    ['text behind the root', '<a/>b', 'parse/xml'],
    ['an attribute twice', '<a b="1" b="2"/>', 'parse/xml'],
    ['an attribute twice by two prefixes', '<a xmlns:p="u:a" xmlns:q="u:a" p:b="1" q:b="2"/>', 'parse/xml'],
    ['attributes without space between', '<a b="1"c="2"/>', 'parse/xml'],
    ['an attribute without a value', '<a b/>', 'parse/xml'],
    ['an attribute without quotes', '<a b=1/>', 'parse/xml'],
    ['a < in an attribute', '<a b="<"/>', 'parse/xml'],
    ['a prefix that nobody declared', '<p:a/>', 'parse/xml'],
    ['a prefix that is declared elsewhere', '<a><b xmlns:p="u:p"/><p:c/></a>', 'parse/xml'],
    ['an attribute whose prefix nobody declared', '<a p:b="1"/>', 'parse/xml'],
    ['an xml: attribute', '<a xml:id="b"/>', 'parse/xml'],
    ['the xml prefix bound anew', '<a xmlns:xml="u:b"/>', 'parse/xml'],
    ['the xmlns prefix bound', '<a xmlns:xmlns="u:b"/>', 'parse/xml'],
    ['a prefix taken back', '<a xmlns:p="u:p"><b xmlns:p=""/></a>', 'parse/xml'],
    ['a relative namespace', '<a xmlns="b"/>', 'parse/xml'],
    ['a name with two colons', '<a:b:c/>', 'parse/xml'],
    ['a name beyond ASCII', '<ä/>', 'parse/xml'],
    ['elements crossing', '<a><b></a></b>', 'parse/xml'],
    ['an element left open', '<a><b></b>', 'parse/xml'],
    ['an end by another prefix', '<p:a xmlns:p="u:a" xmlns:q="u:a"></q:a>', 'parse/xml'],
    ['a control character', '<a>\u0001</a>', 'parse/xml'],
    ['nothing', '', 'parse/xml'],
    ['depth', '<a>'.repeat(17) + '</a>'.repeat(17), 'parse/xml'],
    ['attributes without end', `<a ${Array.from({ length: 65 }, (_, i) => `b${i}=""`).join(' ')}/>`, 'parse/xml'],
    [
      'namespaces without end',
      `<a ${Array.from({ length: 33 }, (_, i) => `xmlns:b${i}="u:${i}"`).join(' ')}/>`,
      'parse/xml',
    ],
    ['length', `<a>${' '.repeat(512 * 1024)}</a>`, 'parse/length'],
  ])('refuses %s', (_name, xml, reason) => {
    expect(() => parseXml(utf8(xml))).toThrow(expect.objectContaining({ reason }));
  });

  test('refuses what is not UTF-8', () => {
    for (const bytes of [
      [0x3c, 0xff, 0x2f, 0x3e],
      [0x3c, 0x61, 0x3e, 0xed, 0xa0, 0x80, 0x3c, 0x2f, 0x61, 0x3e],
    ])
      expect(() => parseXml(Uint8Array.from(bytes))).toThrow(expect.objectContaining({ reason: 'parse/xml' }));
  });

  test('takes time linear in hostile input', () => {
    const hostile = [
      `<a>${'<b '.repeat(100_000)}`,
      `<a ${' '.repeat(500_000)}`,
      `<a b="${'&amp;'.repeat(100_000)}"/>`,
      `<${'a'.repeat(500_000)}`,
      `<a b${'="'.repeat(200_000)}`,
      `<a>${'&'.repeat(500_000)}</a>`,
      `<a>${'<b/>'.repeat(120_000)}</a>`,
    ];
    const start = performance.now();
    for (const xml of hostile) {
      try {
        parseXml(utf8(xml));
      } catch (error) {
        expect(error).toBeInstanceOf(CfnError);
      }
    }
    expect(performance.now() - start).toBeLessThan(3000);
  });

  test('either parses or refuses: nothing else is thrown', () => {
    const pieces = fc.constantFrom(
      '<a',
      '>',
      '/>',
      '</a>',
      ' b="',
      '"',
      '&',
      '&lt;',
      '&#65;',
      '<!--',
      '<![CDATA[',
      '<?',
      ' xmlns:p="u:p"',
      'p:',
      'x',
      '\u0000',
      '\u{1f600}',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 30 }), (parts) => {
        try {
          const root = parseXml(utf8(parts.join('')));
          // What was accepted is its own canonical form's canonical form.
          const once = fromUtf8(canonicalize(root));
          expect(canonical(once)).toBe(once);
        } catch (error) {
          expect(error).toBeInstanceOf(CfnError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('canonicalize', () => {
  test.each([
    [
      'empty elements are written out, attributes sorted by namespace and name',
      '<a z="1" xmlns:q="u:1" xmlns:p="u:2" p:a="2" q:b="3" b="4"/>',
      '<a xmlns:p="u:2" xmlns:q="u:1" b="4" z="1" q:b="3" p:a="2"></a>',
    ],
    [
      'namespaces are written where they change',
      '<a xmlns="u:1" xmlns:p="u:2"><b xmlns="u:1" xmlns:p="u:2"><c xmlns="u:3"/></b></a>',
      '<a xmlns="u:1" xmlns:p="u:2"><b><c xmlns="u:3"></c></b></a>',
    ],
    [
      'the default namespace can be taken back',
      '<a xmlns="u:1"><b xmlns=""><c xmlns=""/></b></a>',
      '<a xmlns="u:1"><b xmlns=""><c></c></b></a>',
    ],
    [
      'text and attributes are escaped',
      '<a b="&quot;\'&#10;&#9;&#13;&lt;>&amp;\n">&#13;"&gt;&lt;\'</a>',
      '<a b="&quot;\'&#xA;&#x9;&#xD;&lt;>&amp; ">&#xD;"&gt;&lt;\'</a>',
    ],
    ['white space stays', '<a >\n <b />\t</a>', '<a>\n <b></b>\t</a>'],
  ])('%s', (_name, xml, expected) => {
    expect(canonical(xml)).toBe(expected);
  });

  test('an element by itself shows what is in scope, and leaves one out', () => {
    const root = parseXml(utf8('<a xmlns="u:1" xmlns:p="u:2"><b><c/><d/></b></a>'));
    const [b] = childElements(root);
    if (b === undefined) throw new RangeError('b is there');
    expect(fromUtf8(canonicalize(b))).toBe('<b xmlns="u:1" xmlns:p="u:2"><c></c><d></d></b>');
    expect(fromUtf8(canonicalize(root, b))).toBe('<a xmlns="u:1" xmlns:p="u:2"></a>');
    expect(() => textOf(b)).toThrow(CfnError);
    expect(() => childElements(parseXml(utf8('<a>t<b/></a>')))).toThrow(CfnError);
  });
});
