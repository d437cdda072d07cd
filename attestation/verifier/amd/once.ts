import { frame, sha256Hex, utf8 } from '../../../proto/index.ts';
import type { Crl } from '../../evidence/crl.ts';
import type { Certificate } from '../../evidence/x509.ts';
import { verifyLinks } from '../pki/chain.ts';
import { verifyCrlSignature } from '../pki/crl.ts';

/** Verified objects remembered. A fleet has few CAs, but one VCEK per machine and TCB. */
const REMEMBERED_MAX = 1024;
/** What verified, by digest of all that the outcome depends on. Failures are not kept. Least recently used go first. */
const remembered = new Set<string>();

/** {@link verifyLinks}, remembering success. Dates are no part of it: the caller checks them each time. */
export function verifyLinksOnce(
  chain: readonly Certificate[],
  options: { readonly root: string; readonly what: string },
): Promise<void> {
  const inputs = [utf8(options.root), ...chain.map(({ der }) => der)];
  return once('cfn/verified-links/v1', inputs, () => verifyLinks(chain, options));
}

/** {@link verifyCrlSignature}, remembering success. */
export function verifyCrlSignatureOnce(crl: Crl, issuer: Certificate, what: string): Promise<void> {
  return once('cfn/verified-crl/v1', [crl.der, issuer.der], () => verifyCrlSignature(crl, issuer, what));
}

async function once(label: `cfn/${string}`, inputs: readonly Uint8Array[], verify: () => Promise<void>): Promise<void> {
  const digest = await sha256Hex(frame(label, ...inputs));
  if (!remembered.delete(digest)) await verify();
  remembered.add(digest);
  const [oldest] = remembered;
  if (remembered.size > REMEMBERED_MAX && oldest !== undefined) remembered.delete(oldest);
}
