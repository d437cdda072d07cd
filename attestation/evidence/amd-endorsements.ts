import { equalBytes } from '../../proto/index.ts';
import { isAmdLeaf, parseAmdLeaf, type AmdLeaf } from './amd-certificate.ts';
import { isMasked, kdsLeafUrl } from './amd-kds.ts';
import { AMD_PRODUCTS, type AmdProduct } from './amd-product.ts';
import { refuse } from './reasons.ts';
import type { SnpReport } from './snp.ts';
import type { Certificate } from './x509.ts';

/** Most certificates looked at for one report; AMD's chains have three, but those of many chips may come together. */
const AMD_CERTIFICATES_MAX = 64;

/** The certificates behind a report, sorted. What is `undefined` was not given. */
export interface AmdEndorsements {
  readonly leaf: AmdLeaf;
  /** ASK or ASVK. */
  readonly intermediate: Certificate | undefined;
  /** ARK. */
  readonly root: Certificate | undefined;
}

/**
 * Picks a report's chain out of certificates given in any order: the leaf by AMD's extensions, the CAs by their names. Where
 * several of a kind are there, the one that fits; where none fits, the first, so that the verifier can say what is wrong with it.
 *
 * @throws {Refusal} `collateral/missing` without a leaf, naming the URL that gives it; `parse/length` for too many; those of
 *   {@link parseAmdLeaf}
 */
export function assembleAmdEndorsements(certificates: readonly Certificate[], report: SnpReport): AmdEndorsements {
  if (certificates.length > AMD_CERTIFICATES_MAX)
    refuse('parse/length', `${certificates.length} AMD certificates, at most ${AMD_CERTIFICATES_MAX} are looked at`);
  const authorities = certificates.filter((certificate) => certificate.isCa && !isAmdLeaf(certificate));
  const roots = authorities.filter((certificate) => equalBytes(certificate.issuer, certificate.subject));
  const intermediates = authorities.filter((certificate) => !roots.includes(certificate));
  const leaf = pickLeaf(certificates.filter(isAmdLeaf).map(parseAmdLeaf), report) ?? missingLeaf(report, authorities);
  const intermediate = issuerOf(leaf.certificate, intermediates) ?? intermediates[0];
  const root = (intermediate && issuerOf(intermediate, roots)) ?? roots[0];
  return { leaf, intermediate, root };
}

function pickLeaf(leaves: readonly AmdLeaf[], report: SnpReport): AmdLeaf | undefined {
  const ofKind = leaves.filter(({ kind }) => kind === report.signer);
  const ofChip = ofKind.filter(({ hardwareId }) => hardwareId === undefined || isOfChip(hardwareId, report));
  return ofChip.find(({ tcb }) => equalBytes(tcb, report.reportedTcb)) ?? ofChip[0] ?? ofKind[0] ?? leaves[0];
}

/** The leaf among certificates that is for this report's kind of key, chip and TCB. It says so itself; nothing of it is verified. */
export function findLeaf(certificates: readonly Certificate[], report: SnpReport): AmdLeaf | undefined {
  return certificates
    .filter(isAmdLeaf)
    .map(parseAmdLeaf)
    .find(
      ({ kind, hardwareId, tcb }) =>
        kind === report.signer &&
        (hardwareId === undefined || isMasked(report) || isOfChip(hardwareId, report)) &&
        equalBytes(tcb, report.reportedTcb),
    );
}

/** Whether a certificate's hardware id is the report's chip id: all of it, or on Turin its first eight bytes. */
export function isOfChip(hardwareId: Uint8Array, { chipId }: Pick<SnpReport, 'chipId'>): boolean {
  return equalBytes(hardwareId, chipId.subarray(0, hardwareId.length));
}

function issuerOf(certificate: Certificate, candidates: readonly Certificate[]): Certificate | undefined {
  return candidates.find(({ subject }) => equalBytes(subject, certificate.issuer));
}

/** The product in an authority's name: `ARK-Milan`, `SEV-Milan`, `SEV-VLEK-Milan`. */
export function productOfAuthority({ subjectCommonName }: Certificate): AmdProduct | undefined {
  return AMD_PRODUCTS.find((product) => subjectCommonName.endsWith(`-${product}`));
}

function missingLeaf(report: SnpReport, authorities: readonly Certificate[]): never {
  const kind = report.signer === 'none' ? 'VCEK' : report.signer;
  const product = report.product ?? authorities.map(productOfAuthority).find((found) => found !== undefined);
  const url = product === undefined ? undefined : kdsLeafUrl(report, product);
  const where = url ?? 'no URL can be given: the report does not name its product, or hides its chip';
  refuse('collateral/missing', `the ${kind} certificate is missing: ${where}`);
}
