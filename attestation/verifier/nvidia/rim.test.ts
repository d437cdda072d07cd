import { readdirSync } from 'node:fs';
import { createHash, createVerify, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { SignedXml } from 'xml-crypto';
import { fromUtf8, utf8 } from '../../../proto/index.ts';
import { parseGoldenValues, parseRim } from '../../evidence/rim.ts';
import { parseXml } from '../../evidence/xml.ts';
import { Findings } from '../findings.ts';
import { issueRimChain, signXml, writeSwidTag } from './authority.fixture.ts';
import { DRIVER_RIM, reasonsOf, vector } from './nvidia.fixture.ts';
import { createRimCache } from './rim-cache.ts';
import { beginRim, openRim, verifyRim, verifyRimSignature } from './rim.ts';

const FOLDER = new URL('../../vectors/nvidia/rims/', import.meta.url);
const FILES = readdirSync(FOLDER).filter((file) => file.endsWith('.xml'));
const NOW = new Date('2025-09-01T00:00:00Z');
const GOOD = fromUtf8(vector(DRIVER_RIM));

async function verdict(xml: Uint8Array): Promise<boolean> {
  try {
    await verifyRimSignature(parseRim(xml), 'RIM');
    return true;
  } catch {
    return false;
  }
}

/** What xml-crypto, taught the three algorithms, says of the signature by the first certificate. */
function oracle(xml: string): boolean {
  const signature = /<ds:Signature[\s\S]*<\/ds:Signature>/.exec(xml)?.[0] ?? '';
  const certificate = /<ds:X509Certificate>([^<]+)</.exec(xml)?.[1] ?? '';
  const { publicKey } = new X509Certificate(Buffer.from(certificate, 'base64'));
  const signed = new SignedXml({ publicCert: publicKey.export({ type: 'spki', format: 'pem' }) });
  const { 'http://www.w3.org/TR/2001/REC-xml-c14n-20010315': c14n } = signed.CanonicalizationAlgorithms;
  if (c14n === undefined) throw new RangeError('xml-crypto knows C14N 1.0');
  signed.CanonicalizationAlgorithms['http://www.w3.org/2006/12/xml-c14n11'] = c14n;
  signed.HashAlgorithms['http://www.w3.org/2001/04/xmldsig-more#sha384'] = class {
    getHash = (text: string) => createHash('sha384').update(text, 'utf8').digest('base64');
    getAlgorithmName = () => 'http://www.w3.org/2001/04/xmldsig-more#sha384';
  };
  signed.SignatureAlgorithms['http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384'] = class {
    getSignature = () => '';
    verifySignature = (text: string, _key: unknown, value: string) =>
      createVerify('sha384').update(text).verify({ key: publicKey, dsaEncoding: 'ieee-p1363' }, value, 'base64');
    getAlgorithmName = () => 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384';
  };
  signed.loadSignature(signature);
  try {
    return signed.checkSignature(xml);
  } catch {
    return false;
  }
}

describe('the signature of a RIM', () => {
  test.each(FILES)('%s: xml-crypto says the same', async (file) => {
    const xml = vector(`rims/${file}`);
    expect(await verdict(xml)).toBe(oracle(fromUtf8(xml)));
  });

  test('xml-crypto says the same of documents that lie in every form of white space and reference', async () => {
    const chain = await issueRimChain();
    const tag = writeSwidTag({ product: 'GB100', version: '575.32', values: { 1: [new Uint8Array(48)] } });
    for (const xml of [
      tag,
      tag.replace('<ns0:Meta', '<ns0:Entity name="a&amp;b &#x20AC; &quot;&#10;&#9;" role=\'x "y"\'/>\r\n<ns0:Meta'),
      tag.replace('<ns0:Meta', '<ns0:Entity xmlns="" xmlns:z="u:z" z:b="2" a="1" name="\n\t"/><ns0:Meta'),
    ]) {
      const signed = await signXml(xml, chain);
      expect(await verdict(signed)).toBe(true);
      expect(oracle(fromUtf8(signed))).toBe(true);
    }
  });

  const root = GOOD.slice(0, GOOD.indexOf('>') + 1);
  const signature = /<ds:Signature[\s\S]*<\/ds:Signature>/.exec(GOOD)?.[0] ?? '';
  const payload = /<ns0:Payload[\s\S]*<\/ns0:Payload>/.exec(GOOD)?.[0] ?? '';
  const reference = /<ds:Reference[\s\S]*<\/ds:Reference>/.exec(GOOD)?.[0] ?? '';
  const forged = payload.replace('80161aac', '90161aac');

  test.each([
    ['a golden value changed', GOOD.replace('80161aac', '90161aac'), 'collateral/rim-signature'],
    ['white space changed', GOOD.replace('    <ns0:Meta', '   <ns0:Meta'), 'collateral/rim-signature'],
    ['an attribute made inactive', GOOD.replace('active="True"', 'active="False"'), 'collateral/rim-signature'],
    ['a DOCTYPE before it', `<!DOCTYPE SoftwareIdentity>${GOOD}`, 'parse/doctype'],
    ['a DOCTYPE with an entity', `<!DOCTYPE a [<!ENTITY e "x">]>${GOOD}`, 'parse/doctype'],
    ['another root around it', `<a>${GOOD}</a>`, 'parse/xml'],
    ['a forged root around it', `${root}${forged}${GOOD}</SoftwareIdentity>`, 'parse/xml'],
    ['a second root', `${GOOD}${GOOD}`, 'parse/xml'],
    ['a second signature', GOOD.replace('</SoftwareIdentity>', `${signature}</SoftwareIdentity>`), 'parse/xml'],
    [
      'the signature moved to the front',
      GOOD.replace(signature, '').replace('<ns0:Entity', `${signature}<ns0:Entity`),
      'parse/xml',
    ],
    [
      'the signature moved into the payload',
      GOOD.replace(signature, '').replace('</ns0:Payload>', `${signature}</ns0:Payload>`),
      'parse/xml',
    ],
    [
      'the original hidden in the signature',
      GOOD.replace(payload, forged).replace('</ds:KeyInfo>', `</ds:KeyInfo><ds:Object>${payload}</ds:Object>`),
      'parse/xml',
    ],
    [
      'the original hidden in the key info',
      GOOD.replace(payload, forged).replace('</ds:X509Data>', `</ds:X509Data>${payload}`),
      'parse/xml',
    ],
    ['a forged payload beside the signed one', GOOD.replace(signature, `${forged}${signature}`), 'parse/xml'],
    ['a second reference', GOOD.replace(reference, `${reference}${reference}`), 'parse/xml'],
    ['a reference to an id', GOOD.replace('URI=""', 'URI="#a"'), 'parse/xml'],
    ['a reference without URI', GOOD.replace(' URI=""', ''), 'parse/xml'],
    ['a reference with a type', GOOD.replace('URI=""', 'URI="" Type="a"'), 'parse/xml'],
    [
      'no enveloped transform',
      GOOD.replace('<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>', ''),
      'parse/xml',
    ],
    [
      'an XPath transform',
      GOOD.replace('xmldsig#enveloped-signature', 'xmldsig#xpath').replace(
        'http://www.w3.org/2000/09/xmldsig#xpath',
        'http://www.w3.org/TR/1999/REC-xpath-19991116',
      ),
      'parse/unsupported-algorithm',
    ],
    ['a weaker digest', GOOD.replace('xmldsig-more#sha384', 'xmldsig#sha1'), 'parse/unsupported-algorithm'],
    [
      'an HMAC for a signature',
      GOOD.replace('xmldsig-more#ecdsa-sha384', 'xmldsig-more#hmac-sha384'),
      'parse/unsupported-algorithm',
    ],
    [
      'other canonical form',
      GOOD.replace('http://www.w3.org/2006/12/xml-c14n11', 'http://www.w3.org/2001/10/xml-exc-c14n#'),
      'parse/unsupported-algorithm',
    ],
    ['a comment in a digest', GOOD.replace('<ds:DigestValue>', '<ds:DigestValue><!-- a -->'), 'parse/xml'],
    ['a comment in a version', GOOD.replace('<ns0:Payload', '<!-- a --><ns0:Payload'), 'parse/xml'],
    ['CDATA in the payload', GOOD.replace('</ns0:Payload>', '<![CDATA[ ]]></ns0:Payload>'), 'parse/xml'],
    ['a processing instruction', GOOD.replace('</ns0:Payload>', '<?a b?></ns0:Payload>'), 'parse/xml'],
    [
      'a prefix bound to another namespace',
      GOOD.replace('xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', 'xmlns:ds="urn:x:dsig"'),
      'parse/xml',
    ],
    ['a namespace rebound below', GOOD.replace('<ns0:Payload ', '<ns0:Payload xmlns:ns2="urn:x:hash" '), 'parse/xml'],
    ['a foreign element', GOOD.replace('<ns0:Meta', '<x xmlns="urn:x:y"/><ns0:Meta'), 'parse/xml'],
    ['a payload nested in a payload', GOOD.replace(payload, `<ns0:Payload>${payload}</ns0:Payload>`), 'parse/xml'],
    ['no signature', GOOD.replace(signature, ''), 'parse/xml'],
    ['no certificates', GOOD.replace(/<ds:X509Certificate>[\s\S]*<\/ds:X509Certificate>/, ''), 'parse/xml'],
    [
      'a certificate that is none',
      GOOD.replace(/<ds:X509Certificate>[^<]*</, '<ds:X509Certificate>AAAA<'),
      'parse/der',
    ],
    [
      'a certificate that is not base64',
      GOOD.replace(/<ds:X509Certificate>[^<]*</, '<ds:X509Certificate>---<'),
      'parse/base64',
    ],
    ['signature value cut short', GOOD.replace(/<ds:SignatureValue>[^<]*</, '<ds:SignatureValue>AAAA<'), 'parse/xml'],
  ])('refuses %s', async (_name, xml, reason) => {
    expect(xml).not.toBe(GOOD);
    const verify = async (): Promise<void> => verifyRimSignature(parseRim(utf8(xml)), 'RIM');
    await expect(verify()).rejects.toMatchObject({ reason });
  });

  test('refuses chains of another root, wrong order, and without the root', async () => {
    const chain = await issueRimChain();
    const tag = writeSwidTag({ product: 'GB100', version: '575.32', values: { 1: [new Uint8Array(48)] } });
    const judge = async (issued: typeof chain.issued, root = chain.root): Promise<string[]> => {
      const findings = new Findings();
      const rim = await openRim(await signXml(tag, { ...chain, issued }), root, undefined);
      await verifyRim(beginRim(rim, root), NOW, undefined, findings);
      return reasonsOf(findings.failures);
    };
    const [leaf, l3, l2, root] = chain.issued;
    if (leaf === undefined || l3 === undefined || l2 === undefined || root === undefined) throw new RangeError('four');
    expect(await judge(chain.issued)).toEqual([]);
    expect(await judge(chain.issued, '00'.repeat(32))).toEqual(['certificate/untrusted-root']);
    expect(await judge([leaf, l3, l2])).toEqual(['certificate/untrusted-root']);
    expect(await judge([leaf, l2, root])).toEqual(['certificate/missing-intermediate']);
    expect(await judge([leaf, l2, l3, root])).toEqual(['certificate/broken-link']);
    // The leaf's key signs, whatever stands first.
    expect(await judge([l3, leaf, l2, root])).toEqual(['certificate/broken-link', 'collateral/rim-signature']);
  });

  test('is remembered, its dates not', async () => {
    const cache = createRimCache(1);
    const chain = await issueRimChain();
    const xml = await signXml(
      writeSwidTag({ product: 'GB100', version: '1', values: { 1: [new Uint8Array(48)] } }),
      chain,
    );
    const judge = async (now: Date): Promise<{ kept: boolean; reasons: string[] }> => {
      const findings = new Findings();
      const rim = await openRim(xml, chain.root, cache);
      await verifyRim(beginRim(rim, chain.root), now, cache, findings);
      return { kept: rim.kept, reasons: reasonsOf(findings.failures) };
    };
    expect(await judge(NOW)).toEqual({ kept: false, reasons: [] });
    expect(await judge(NOW)).toEqual({ kept: true, reasons: [] });
    expect(await judge(new Date('2031-01-01'))).toEqual({ kept: true, reasons: ['collateral/expired'] });
    expect(await judge(new Date('2023-01-01'))).toEqual({ kept: true, reasons: ['collateral/not-yet-valid'] });
    expect(await judge(new Date(Number.NaN))).toMatchObject({ reasons: ['collateral/not-yet-valid'] });
    // Under another root it counts for nothing.
    expect((await openRim(xml, '00'.repeat(32), cache)).kept).toBe(false);
    cache.set('other', parseRim(xml));
    expect((await judge(NOW)).kept).toBe(false);
  });

  test('does not remember what failed', async () => {
    const cache = createRimCache();
    const bad = vector('rims/incorrect_signature_driver_rim.xml');
    const rim = await openRim(bad, '00', cache);
    await verifyRim(beginRim(rim, '00'), NOW, cache, new Findings());
    expect((await openRim(bad, '00', cache)).kept).toBe(false);
  });
});

describe('reference values', () => {
  const golden = (file: string) => parseGoldenValues(parseXml(vector(`rims/structure/${file}.xml`)));

  test.each([
    ['failure_duplicate_index', 'parse/duplicate'],
    ['failure_empty_payload', 'collateral/rim-empty'],
    ['failure_hash_empty_namespace', 'parse/xml'],
    ['failure_invalid_alternatives', 'parse/xml'],
    ['failure_invalid_index', 'parse/xml'],
    ['failure_invalid_size', 'parse/xml'],
    ['failure_missing_alternatives', 'parse/xml'],
    ['failure_missing_hash', 'parse/xml'],
    ['failure_missing_index', 'parse/xml'],
    ['failure_missing_size', 'parse/xml'],
    ['failure_no_payload', 'parse/xml'],
    // A value of this one is not hexadecimal, which its authors let pass.
    ['success_payload_multiple_measurements', 'parse/xml'],
  ])('%s is refused', (file, reason) => {
    const read = (): unknown => golden(file);
    if (file === 'failure_duplicate_index') {
      const xml = fromUtf8(vector(`rims/structure/${file}.xml`)).replace(/hash0|hashA/g, '00');
      expect(() => parseGoldenValues(parseXml(utf8(xml)))).toThrow(expect.objectContaining({ reason }));
    } else expect(read).toThrow(expect.objectContaining({ reason }));
  });

  test('are read with all their alternatives', () => {
    expect(golden('success_payload_single_measurement')).toMatchObject([{ index: 0, active: true, size: 48 }]);
    expect(golden('success_payload_multiple_alternatives')[1]?.alternatives).toHaveLength(4);
  });

  test.each([
    'missing_meta',
    'missing_colloquial_version',
    'missing_x509_data',
    'missing_x509_certificate',
    'invalid_base64_cert',
    'invalid_cert_bytes',
    'invalid_pem_data',
  ])('failure_%s is refused', (file) => {
    const read = (): unknown => parseRim(vector(`rims/structure/failure_${file}.xml`));
    expect(read).toThrow(expect.objectContaining({ reason: 'parse/xml' }));
  });

  test.each([
    ['no active value', 'active="True"', 'active="False"', 'collateral/rim-empty'],
    ['another word for active', 'active="True"', 'active="true"', 'parse/xml'],
    ['an index past the last block', 'index="1"', 'index="254"', 'parse/xml'],
    ['an index with a leading zero', 'index="1"', 'index="01"', 'parse/xml'],
    ['no version', 'colloquialVersion', 'version', 'parse/xml'],
    ['two payloads', '<ns0:Payload>', '<ns0:Payload/><ns0:Payload>', 'parse/xml'],
    ['other elements in the payload', '<ns0:Payload>', '<ns0:Payload><ns0:File/>', 'parse/xml'],
    ['alternatives that are too many', 'alternatives="1"', 'alternatives="17"', 'parse/xml'],
  ])('refuses %s', async (_name, from, to, reason) => {
    const tag = writeSwidTag({ product: 'GB100', version: '575.32', values: { 1: [new Uint8Array(48)] } });
    expect(tag).toContain(from);
    const xml = await signXml(tag.replace(from, to), await issueRimChain());
    expect(() => parseRim(xml)).toThrow(expect.objectContaining({ reason }));
  });
});
