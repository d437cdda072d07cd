import { productOfAuthority, type AmdEndorsements } from '../../evidence/amd-endorsements.ts';
import { kdsChainUrl, kdsCrlUrl } from '../../evidence/amd-kds.ts';
import type { AmdLeaf } from '../../evidence/amd-certificate.ts';
import type { AmdProduct } from '../../evidence/amd-product.ts';
import type { Crl } from '../../evidence/crl.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { requireValidAt } from '../pki/chain.ts';
import { settled } from '../pki/settled.ts';
import { requireCrlCurrent, requireNotRevoked } from '../pki/crl.ts';
import { verifyCrlSignatureOnce, verifyLinksOnce } from './once.ts';
import { equalBytes } from '../../../proto/index.ts';

const AUTHORITY_MODULUS_BITS = 4096;

export interface AmdChainOptions {
  readonly crls: readonly Crl[];
  readonly revocation: 'required' | { readonly notChecked: string };
  readonly now: Date;
  readonly roots: Readonly<Record<AmdProduct, string>>;
}

/**
 * Checks VCEK ← ASK ← ARK, or VLEK ← ASVK ← ARK: that they are of one product and fit together, up to the pinned ARK of the product
 * that the leaf names; dates; and the ARK's revocation list.
 */
export async function verifyAmdChain(
  { leaf, intermediate, root }: AmdEndorsements,
  options: AmdChainOptions,
  findings: Findings,
): Promise<void> {
  const fits = await findings.check('intermediate certificate', () => requireIntermediate(leaf, intermediate));
  if (!fits || intermediate === undefined) {
    for (const check of ['certificate chain', 'certificate dates', 'revocation'])
      findings.skip(check, 'the intermediate certificate does not fit');
    return;
  }
  const chain = [leaf.certificate, intermediate, ...(root === undefined ? [] : [root])];
  const list = root && beginList(root, options);
  const linked = await findings.check('certificate chain', async () => {
    requireRoot(leaf, root);
    requireAmdAlgorithms(chain);
    await verifyLinksOnce(chain, { root: options.roots[leaf.product], what: `${leaf.kind} chain` });
  });
  await findings.check('certificate dates', () => {
    for (const certificate of chain) requireValidAt(certificate, options.now, certificate.subjectCommonName);
  });
  if (!linked || root === undefined) findings.skip('revocation', 'the certificate chain does not hold');
  else await checkRevocation(leaf, intermediate, root, list, options, findings);
}

function requireIntermediate(leaf: AmdLeaf, intermediate: Certificate | undefined): void {
  if (intermediate === undefined) {
    const url = kdsChainUrl(leaf.kind, leaf.product);
    refuse('certificate/missing-intermediate', `the certificate between ${leaf.kind} and ARK is missing: ${url}`);
  }
  const name = intermediate.subjectCommonName;
  const product = productOfAuthority(intermediate);
  if (product !== leaf.product)
    refuse('certificate/wrong-product', `the ${leaf.kind} is of ${leaf.productName}, the intermediate is ${name}`);
  const expected = leaf.kind === 'VCEK' ? `SEV-${product}` : `SEV-VLEK-${product}`;
  if (name !== expected) refuse('certificate/wrong-role', `the ${leaf.kind} needs ${expected}, but ${name} is there`);
}

function requireRoot(leaf: AmdLeaf, root: Certificate | undefined): void {
  if (root === undefined) refuse('collateral/missing', `the ARK is missing: ${kdsChainUrl(leaf.kind, leaf.product)}`);
  const product = productOfAuthority(root);
  if (product !== undefined && product !== leaf.product)
    refuse(
      'certificate/wrong-product',
      `the ${leaf.kind} is of ${leaf.productName}, the root is ${root.subjectCommonName}`,
    );
}

/** AMD's hierarchy has one algorithm: RSA-PSS of 4096 bits with SHA-384 and 48 bytes of salt, above a P-384 leaf. */
function requireAmdAlgorithms(chain: readonly Certificate[]): void {
  for (const [depth, { signatureAlgorithm, publicKey, subjectCommonName }] of chain.entries()) {
    requirePss(signatureAlgorithm, subjectCommonName);
    const usual =
      depth === 0
        ? publicKey.type === 'ec' && publicKey.curve === 'P-384'
        : publicKey.type === 'rsa' && publicKey.modulusBits === AUTHORITY_MODULUS_BITS;
    if (!usual) refuse('parse/unsupported-algorithm', `${subjectCommonName} has a key that AMD does not use there`);
  }
}

function requirePss(algorithm: Certificate['signatureAlgorithm'], what: string): void {
  if (algorithm.type !== 'rsa-pss' || algorithm.hash !== 'SHA-384' || algorithm.saltBytes !== 48)
    refuse('parse/unsupported-algorithm', `${what} is not signed with RSA-PSS, SHA-384 and 48 bytes of salt`);
}

/** A list that was chosen. */
interface List {
  readonly crl: Crl;
  /** Whether the ARK signed it, begun before its turn as nothing has to be waited for. */
  readonly signed: Promise<void>;
}

/** The newest of the ARK's lists that counts now, else the newest, else one of somebody else, which is refused. */
function beginList(root: Certificate, { crls, now }: AmdChainOptions): List | undefined {
  const ofRoot = crls.filter(({ issuer }) => equalBytes(issuer, root.subject));
  const crl = newest(ofRoot.filter((list) => isCurrent(list, now))) ?? newest(ofRoot) ?? crls[0];
  return crl && { crl, signed: settled(verifyCrlSignatureOnce(crl, root, listName(root))) };
}

async function checkRevocation(
  leaf: AmdLeaf,
  intermediate: Certificate,
  root: Certificate,
  list: List | undefined,
  { revocation, now }: AmdChainOptions,
  findings: Findings,
): Promise<void> {
  if (list === undefined && revocation !== 'required') return findings.skip('revocation', revocation.notChecked);
  const what = listName(root);
  await findings.check('revocation', async () => {
    if (list === undefined) refuse('revocation/missing', `${what} is missing: ${kdsCrlUrl(leaf.kind, leaf.product)}`);
    const { crl, signed } = list;
    requirePss(crl.signatureAlgorithm, what);
    await signed;
    requireCrlCurrent(crl, now, what);
    // Leaves are not the ARK's, and all have the serial number 0: the list speaks of ASK and ASVK.
    requireNotRevoked(crl, intermediate, what);
    requireNotRevoked(crl, root, what);
  });
}

function listName({ subjectCommonName }: Certificate): string {
  return `CRL of ${subjectCommonName}`;
}

function isCurrent({ thisUpdateMs, nextUpdateMs }: Crl, now: Date): boolean {
  return now.getTime() >= thisUpdateMs && now.getTime() <= nextUpdateMs;
}

function newest(crls: readonly Crl[]): Crl | undefined {
  return crls.toSorted((a, b) => b.thisUpdateMs - a.thisUpdateMs)[0];
}
