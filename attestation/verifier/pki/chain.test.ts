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

  const bad: [string, (Partial<CertificateRequest> & { commonName: string })[]][] = [
    ['a leaf that is a CA', [{ commonName: 'leaf' }, middle, root]],
    ['an intermediate that is none', [leaf, { ...middle, isCa: false }, root]],
    ['a root that is no CA', [leaf, middle, { ...root, isCa: false }]],
    ['a path that is too long', [leaf, middle, { ...root, pathLength: 0 }]],
    ['an expired leaf', [{ ...leaf, notAfter: '2026-10-31T23:59:59Z' }, middle, root]],
    ['an expired intermediate', [leaf, { ...middle, notAfter: '2026-10-31T23:59:59Z' }, root]],
    ['an expired root', [leaf, middle, { ...root, notAfter: '2026-10-31T23:59:59Z' }]],
    ['an intermediate of tomorrow', [leaf, { ...middle, notBefore: '2026-11-02T00:00:00Z' }, root]],
    ['a lone root', [root]],
  ];
  test.each(bad)('refuses %s', async (_name, requests) => {
    await expect(verify(await issue(...requests))).rejects.toMatchObject({ code: 'CFN_CHAIN_INVALID' });
  });

  test('refuses a missing intermediate, and another order', async () => {
    const [a, b, c] = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    await expect(verify([a, c])).rejects.toMatchObject({ code: 'CFN_CHAIN_INVALID' });
    await expect(verify([b, a, c])).rejects.toMatchObject({ code: 'CFN_CHAIN_INVALID' });
  });

  test('refuses a CA of the same name that did not sign', async () => {
    const genuine = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    const [, impostor] = (await issue(leaf, middle, root)) as [Issued, Issued, Issued];
    await expect(verify([genuine[0], impostor, genuine[2]])).rejects.toMatchObject({ code: 'CFN_CHAIN_INVALID' });
  });

  test('refuses an empty chain and another root', async () => {
    await expect(verifyChain([], { root: '', now, what: 'chain' })).rejects.toMatchObject({
      code: 'CFN_CHAIN_INVALID',
    });
    const chain = (await issue(leaf, root)).map(({ der }) => parseCertificate(der));
    await expect(verifyChain(chain, { root: '00'.repeat(32), now, what: 'chain' })).rejects.toMatchObject({
      code: 'CFN_CHAIN_UNTRUSTED',
    });
  });
});
