import { toASCII as withTables } from './idna.ts';

/**
 * Stands in for the package `tr46` in the platform bundle. URL Standard §3.3 lets an ASCII domain without Punycode labels skip the
 * IDNA tables.
 */
export function toASCII(domain: string, options: { readonly useSTD3ASCIIRules?: boolean }): string | null {
  // oxlint-disable-next-line no-control-regex
  if (options.useSTD3ASCIIRules !== true && /^[\x00-\x7f]*$/.test(domain) && !/(^|\.)xn--/i.test(domain))
    return domain.toLowerCase();
  return withTables(domain, options);
}
