import { equalBytes } from '../../../proto/index.ts';
import type { Certificate } from '../../evidence/x509.ts';

/** From a certificate's issuer to the root, by name; short where one is missing. */
export function issuersOf(leaf: Certificate, all: readonly Certificate[]): Certificate[] {
  const chain: Certificate[] = [];
  for (let below = leaf; !equalBytes(below.issuer, below.subject);) {
    const issuer = all.find((candidate) => candidate.isCa && equalBytes(candidate.subject, below.issuer));
    if (issuer === undefined || chain.includes(issuer)) break;
    chain.push(issuer);
    below = issuer;
  }
  return chain;
}
