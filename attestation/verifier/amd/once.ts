import type { Crl } from '../../evidence/crl.ts';
import type { Certificate } from '../../evidence/x509.ts';
import { BoundedMap } from '../bounded-map.ts';
import { verifyLinks } from '../pki/chain.ts';
import { verifyCrlSignature } from '../pki/crl.ts';
import { mapKey } from '../pki/map-key.ts';

/** What verified, by all the bytes that this depends on. A machine has one VCEK per TCB and is asked again every minute or so. */
const verified = new BoundedMap<string, true>(256);

/** `verifyLinks`, remembering success. Dates are no part of it: the caller checks them each time. */
export function verifyLinksOnce(
  chain: readonly Certificate[],
  options: { readonly root: string; readonly what: string },
): Promise<void> {
  const inputs = chain.map(({ der }) => der);
  return once(`links ${options.root}`, inputs, () => verifyLinks(chain, options));
}

/** `verifyCrlSignature`, remembering success. */
export function verifyCrlSignatureOnce(crl: Crl, issuer: Certificate, what: string): Promise<void> {
  return once('CRL', [crl.der, issuer.der], () => verifyCrlSignature(crl, issuer, what));
}

async function once(label: string, inputs: readonly Uint8Array[], verify: () => Promise<void>): Promise<void> {
  const key = [label, ...inputs.map((bytes) => `${bytes.length} ${mapKey(bytes)}`)].join(' ');
  if (verified.get(key) !== undefined) return;
  await verify();
  verified.set(key, true);
}
