/** The part of `tr46` that whatwg-url uses; the package has no types. */
interface Tr46 {
  toASCII(domain: string, options: { readonly useSTD3ASCIIRules?: boolean }): string | null;
}
declare const require: (name: 'tr46') => Tr46; // esbuild puts it in

/**
 * Stands in for the package `tr46` in the platform bundle. URL Standard §3.3 lets an ASCII domain without Punycode labels skip the
 * IDNA tables, which are 220 KB; they are evaluated when another domain comes.
 */
export function toASCII(domain: string, options: { readonly useSTD3ASCIIRules?: boolean }): string | null {
  // oxlint-disable-next-line no-control-regex
  if (options.useSTD3ASCIIRules !== true && /^[\x00-\x7f]*$/.test(domain) && !/(^|\.)xn--/i.test(domain))
    return domain.toLowerCase();
  return require('tr46').toASCII(domain, options);
}
