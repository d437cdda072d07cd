import { CfnError, equalBytes, fromUtf8, toHex } from '../../proto/index.ts';
import { isAmdLeaf, parseAmdLeaf } from '../evidence/amd-certificate.ts';
import { findLeaf, isOfChip } from '../evidence/amd-endorsements.ts';
import { AMD_KDS, kdsChainUrl, kdsCrlUrl, kdsLeafUrl } from '../evidence/amd-kds.ts';
import type { AmdProduct } from '../evidence/amd-product.ts';
import { parseCrl } from '../evidence/crl.ts';
import { refuse } from '../evidence/reasons.ts';
import type { SnpReport } from '../evidence/snp.ts';
import { parseCertificate, parsePemChain, type Certificate } from '../evidence/x509.ts';
import { verifyChain } from '../verifier/pki/chain.ts';
import { verifyCrl } from '../verifier/pki/crl.ts';
import { AMD_ROOTS } from '../verifier/trust-anchors.ts';
import { VendorRefusal } from './http.ts';
import { kdsCache, type KdsCacheOptions } from './kds-cache.ts';
import type { Renewable } from './renewing-cache.ts';
import { tokenBucket } from './token-bucket.ts';

/** CAs and CRLs are asked for again after a day, so that a revocation becomes known. */
const RENEWED_MS = 24 * 60 * 60_000;
/**
 * Chips whose certificates are asked for: so many at once, and so many a minute. Anybody can name chips that there are not; what AMD
 * refuses to answer after that is refused to genuine ones too. First guesses.
 */
const LEAVES = { atOnce: 20, perMinute: 10 };
/** Reports of version 2 do not name their product; their firmware is older than Turin. */
const PRODUCTS_OF_VERSION_2 = ['Milan', 'Genoa'] as const;

export interface AmdKdsOptions extends KdsCacheOptions {
  /** Origin of AMD's service, or of a cache in front of it. The default is AMD's. */
  readonly url?: string;
  /** SHA-256 of each product's ARK, hexadecimal. The default is AMD's. */
  readonly roots?: Readonly<Record<AmdProduct, string>>;
}

/** DER, in no promised order: what a verifier takes beside the report. */
export interface AmdCollateral {
  readonly certificates: readonly Uint8Array[];
  readonly crls: readonly Uint8Array[];
}

/**
 * Fetches what a report needs from AMD's key distribution service: the authorities, its VCEK certificate, and the ARK's CRL, each
 * verified up to the pinned ARK and kept as long as it can be used. The service limits how often it answers; while it asks to wait,
 * what is not kept is refused at once. A VLEK's certificate comes only from the provider who holds the key, so for those only the
 * authorities and the CRL are fetched.
 *
 * Nor is the leaf fetched where it came with the report; then an answer that fails counts as none, and the verifier says whether what came
 * will do.
 *
 * @returns a function of the report, and of the certificates that came with it. It throws CfnError `CFN_VENDOR_UNREACHABLE`; `collateral/missing` for a report whose key
 *   nothing names; `collateral/wrong-id`, `certificate/…`, `revocation/…` and `parse/…` for answers that are not what was asked for.
 */
export function amdKds(
  options: AmdKdsOptions,
): (report: SnpReport, brought?: readonly Uint8Array[]) => Promise<AmdCollateral> {
  const { url: base = AMD_KDS, roots = AMD_ROOTS, now } = options;
  const get = kdsCache<readonly Uint8Array[]>(options);
  const mayAskForLeaf = tokenBucket(LEAVES, now);
  function admitLeaf(): void {
    if (!mayAskForLeaf())
      throw new CfnError(
        'CFN_VENDOR_UNREACHABLE',
        `AMD's KDS is asked for ${LEAVES.perMinute} further chips a minute at most`,
      );
  }

  // One after the other: the service counts requests, and each is verified with those before it.
  const authoritiesOf = (report: SnpReport, product: AmdProduct): Promise<readonly Uint8Array[]> =>
    get(kdsChainUrl(kindOf(report), product, base), (bytes) => readAuthorities(bytes, roots[product], now()));
  const crlsOf = (
    report: SnpReport,
    product: AmdProduct,
    issuers: readonly Certificate[],
  ): Promise<readonly Uint8Array[]> =>
    get(kdsCrlUrl(kindOf(report), product, base), (bytes) => readCrl(bytes, issuers, now()));

  async function fetchFor(report: SnpReport, product: AmdProduct): Promise<AmdCollateral> {
    const leafUrl = kindOf(report) === 'VLEK' ? undefined : leafUrlOf(report, product, base);
    const authorities = await authoritiesOf(report, product);
    const issuers = authorities.map((der) => parseCertificate(der));
    const leaf =
      leafUrl === undefined
        ? []
        : await get(leafUrl, (bytes) => readLeaf(bytes, report, issuers, roots[product], now()), admitLeaf);
    return { certificates: [...leaf, ...authorities], crls: await crlsOf(report, product, issuers) };
  }

  async function fetchBeside(report: SnpReport, product: AmdProduct): Promise<AmdCollateral> {
    const certificates = await orNone(authoritiesOf(report, product));
    if (certificates.length === 0) return { certificates, crls: [] };
    const issuers = certificates.map((der) => parseCertificate(der));
    return { certificates, crls: await orNone(crlsOf(report, product, issuers)) };
  }

  return async (report, brought = []) => {
    const leaf = findLeaf(
      brought.map((der) => parseCertificate(der)),
      report,
    );
    if (leaf !== undefined) return fetchBeside(report, report.product ?? leaf.product);
    if (report.product !== undefined) return fetchFor(report, report.product);
    for (const product of PRODUCTS_OF_VERSION_2) {
      try {
        return await fetchFor(report, product);
      } catch (error) {
        if (!(error instanceof VendorRefusal && (error.answered === 404 || error.answered === 400))) throw error;
      }
    }
    return refuse('collateral/missing', `AMD's KDS knows no chip ${toHex(report.chipId)} with this REPORTED_TCB`);
  };
}

const kindOf = ({ signer }: SnpReport): 'VLEK' | 'VCEK' => (signer === 'VLEK' ? 'VLEK' : 'VCEK');

const orNone = (answer: Promise<readonly Uint8Array[]>): Promise<readonly Uint8Array[]> =>
  answer.catch((error: unknown) => {
    if (error instanceof CfnError) return [];
    throw error;
  });

function leafUrlOf(report: SnpReport, product: AmdProduct, base: string): string {
  const url = kdsLeafUrl(report, product, base);
  return url ?? refuse('collateral/missing', 'the report names no VCEK: it is not signed, or hides its chip');
}

type Answer = Promise<Renewable<readonly Uint8Array[]>>;

/** ASK or ASVK, then the ARK. */
async function readAuthorities(bytes: Uint8Array, root: string, now: Date): Answer {
  const chain = parsePemChain(fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED'));
  await verifyChain(chain, { root, now, what: "AMD's authorities", leafIsCa: true });
  const usableUntilMs = Math.min(...chain.map(({ notAfterMs }) => notAfterMs));
  return { value: chain.map(({ der }) => der), freshUntilMs: now.getTime() + RENEWED_MS, usableUntilMs };
}

async function readLeaf(
  bytes: Uint8Array,
  report: SnpReport,
  issuers: readonly Certificate[],
  root: string,
  now: Date,
): Answer {
  const certificate = parseCertificate(bytes);
  const leaf = isAmdLeaf(certificate) ? parseAmdLeaf(certificate) : undefined;
  const fits = leaf?.hardwareId && isOfChip(leaf.hardwareId, report) && equalBytes(leaf.tcb, report.reportedTcb);
  if (fits !== true) refuse('collateral/wrong-id', "AMD's KDS answers with the certificate of another key");
  await verifyChain([certificate, ...issuers], { root, now, what: 'VCEK chain' });
  return { value: [bytes], freshUntilMs: certificate.notAfterMs, usableUntilMs: certificate.notAfterMs };
}

async function readCrl(bytes: Uint8Array, issuers: readonly Certificate[], now: Date): Answer {
  const crl = parseCrl(bytes);
  const root = issuers.at(-1) ?? refuse('collateral/missing', 'there is no ARK');
  await verifyCrl(crl, root, now, `CRL of ${root.subjectCommonName}`);
  return { value: [bytes], freshUntilMs: now.getTime() + RENEWED_MS, usableUntilMs: crl.nextUpdateMs };
}
