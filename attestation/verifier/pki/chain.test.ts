import { describe, expect, test } from 'vitest';
import { sha256Hex } from '../../../proto/index.ts';
import { parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { issueCertificate, type CertificateRequest, type Issued } from '../../insecure/certificates.ts';
import { verifyChain } from './chain.ts';

const now = new Date('2026-11-01T00:00:00Z');
const base = {
  curve: 'P-256',
  isCa: true,
  notBefore: '2026-01-01T00:00:00Z',
  notAfter: '2027-01-01T00:00:00Z',
} as const;
const leaf = { commonName: 'leaf', isCa: false };
const middle = { commonName: 'middle' };
const root = { commonName: 'root' };

/** Issues root first; `requests` are leaf first, as chains are. */
async function issue(...requests: (Partial<CertificateRequest> & { commonName: string })[]): Promise<Issued[]> {
  const chain: Issued[] = [];
  for (const request of requests.toReversed()) chain.unshift(await issueCertificate({ ...base, ...request }, chain[0]));
  return chain;
}

async function verify(issued: readonly Issued[], at = now): Promise<void> {
  const chain = issued.map(({ der }) => parseCertificate(der));
  await verifyChain(chain, { root: await sha256Hex((chain.at(-1) as Certificate).der), now: at, what: 'chain' });
}

describe('verifyChain', () => {
  test('accepts a good chain, also over both curves', async () => {
    await verify(await issue(leaf, middle, root));
    await verify(await issue({ ...leaf, curve: 'P-384' }, middle, { ...root, curve: 'P-384' }));
  });

  const late = { notAfter: '2026-10-31T23:59:59Z' };
  const bad: [string, string, (Partial<CertificateRequest> & { commonName: string })[]][] = [
    ['a leaf that is a CA', 'ca-flag', [{ commonName: 'leaf' }, middle, root]],
    ['an intermediate that is none', 'ca-flag', [leaf, { ...middle, isCa: false }, root]],
    ['a root that is no CA', 'ca-flag', [leaf, middle, { ...root, isCa: false }]],
    ['a path that is too long', 'wrong-role', [leaf, middle, { ...root, pathLength: 0 }]],
    ['an expired leaf', 'expired', [{ ...leaf, ...late }, middle, root]],
    ['an expired intermediate', 'expired', [leaf, { ...middle, ...late }, root]],
    ['an expired root', 'expired', [leaf, middle, { ...root, ...late }]],
    ['an intermediate of tomorrow', 'not-yet-valid', [leaf, { ...middle, notBefore: '2026-11-02T00:00:00Z' }, root]],
    ['a lone root', 'missing-intermediate', [root]],
  ];
  test.each(bad)('refuses %s', async (_name, reason, requests) => {
    await expect(verify(await issue(...requests))).rejects.toMatchObject({ reason: `certificate/${reason}` });
  });

  test('counts from the first to the last second', async () => {
    const chain = await issue(leaf, middle, root);
    await verify(chain, new Date(base.notBefore));
    await verify(chain, new Date(base.notAfter));
    const at = (ms: number) => verify(chain, new Date(ms));
    await expect(at(Date.parse(base.notBefore) - 1)).rejects.toMatchObject({ reason: 'certificate/not-yet-valid' });
    await expect(at(Date.parse(base.notAfter) + 1)).rejects.toMatchObject({ reason: 'certificate/expired' });
    await expect(at(Number.NaN)).rejects.toMatchObject({ reason: 'certificate/not-yet-valid' });
  });

  test('refuses a missing intermediate, and another order', async () => {
    const [a, b, c] = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    await expect(verify([a, c])).rejects.toMatchObject({ reason: 'certificate/missing-intermediate' });
    await expect(verify([b, a, c])).rejects.toMatchObject({ reason: 'certificate/broken-link' });
  });

  test('refuses a CA of the same name that did not sign, also when the genuine one is known', async () => {
    const genuine = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    const [otherLeaf, impostor] = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    await verify(genuine);
    for (const chain of [
      [genuine[0], impostor, genuine[2]],
      [otherLeaf, impostor, genuine[2]],
    ]) {
      await expect(verify(chain)).rejects.toMatchObject({ reason: 'certificate/broken-link' });
    }
  });

  test('refuses a signature that was changed after the certificate was seen', async () => {
    const genuine = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    await verify(genuine);
    const altered = genuine[1].der.slice();
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    await expect(verify([genuine[0], { ...genuine[1], der: altered }, genuine[2]])).rejects.toMatchObject({
      reason: 'certificate/broken-link',
    });
  });

  test('refuses an empty chain and another root', async () => {
    await expect(verifyChain([], { root: '', now, what: 'chain' })).rejects.toMatchObject({
      reason: 'certificate/missing-intermediate',
    });
    const chain = (await issue(leaf, root)).map(({ der }) => parseCertificate(der));
    await expect(verifyChain(chain, { root: '00'.repeat(32), now, what: 'chain' })).rejects.toMatchObject({
      code: 'CFN_CHAIN_UNTRUSTED',
      reason: 'certificate/untrusted-root',
    });
  });

  test('a chain that comes with a CRL begins with a CA', async () => {
    const chain = (await issue(middle, { ...root, pathLength: 1 })).map(({ der }) => parseCertificate(der));
    const options = { root: await sha256Hex((chain[1] as Certificate).der), now, what: 'chain' };
    await verifyChain(chain, { ...options, leafIsCa: true });
    await expect(verifyChain(chain, options)).rejects.toMatchObject({ reason: 'certificate/ca-flag' });
    const short = (await issue(middle, { ...root, pathLength: 0 })).map(({ der }) => parseCertificate(der));
    await expect(
      verifyChain(short, { ...options, root: await sha256Hex((short[1] as Certificate).der), leafIsCa: true }),
    ).rejects.toMatchObject({ reason: 'certificate/wrong-role' });
  });
});
