/** The part of `tr46` that whatwg-url uses; the package has no types. */
interface Tr46 {
  toASCII(this: void, domain: string, options: { readonly useSTD3ASCIIRules?: boolean }): string | null;
}
declare const require: (name: 'tr46') => Tr46; // esbuild puts it in

/** Domains that need the tables of IDNA, which are most of the URL parser's size. */
export const { toASCII } = require('tr46');
