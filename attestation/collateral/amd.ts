import { equalBytes, fromUtf8, toHex } from '../../proto/index.ts';
import { isAmdLeaf, parseAmdLeaf } from '../evidence/amd-certificate.ts';
import { isOfChip } from '../evidence/amd-endorsements.ts';
import { AMD_KDS, kdsChainUrl, kdsCrlUrl, kdsLeafUrl } from '../evidence/amd-kds.ts';
import type { AmdProduct } from '../evidence/amd-product.ts';
import { parseCrl } from '../evidence/crl.ts';
import { refuse } from '../evidence/reasons.ts';
import type { SnpReport } from '../evidence/snp.ts';
import { parseCertificate, parsePemChain } from '../evidence/x509.ts';
import { VendorRefusal } from './http.ts';
import { kdsCache, type KdsAnswer, type KdsCacheOptions } from './kds-cache.ts';

/** CAs and CRLs are asked for again after a day, so that a revocation becomes known. */
const RENEWED_MS = 24 * 60 * 60_000;
/** Reports of version 2 do not name their product; their firmware is older than Turin. */
const PRODUCTS_OF_VERSION_2 = ['Milan', 'Genoa'] as const;

export interface AmdKdsOptions extends KdsCacheOptions {
  /** Origin of AMD's service, or of a cache in front of it. The default is AMD's. */
  readonly url?: string;
}

/** DER, in no promised order: what a verifier takes beside the report. */
export interface AmdCollateral {
  readonly certificates: readonly Uint8Array[];
  readonly crls: readonly Uint8Array[];
}

/**
 * Fetches what a report needs from AMD's key distribution service: its VCEK certificate, the authorities and their CRL, each kept as
 * long as it can be used. The service limits how often it answers; while it asks to wait, what is not kept is refused at once.
 * A VLEK's certificate comes only from the provider who holds the key, so for those only the authorities and the CRL are fetched.
 *
 * Nothing of it is verified here.
 *
 * @returns a function of the report. It throws CfnError `CFN_VENDOR_UNREACHABLE`; `collateral/missing` for a report whose key
 *   nothing names; `collateral/wrong-id` and `parse/…` for answers that are not what was asked for.
 */
export function amdKds(options: AmdKdsOptions): (report: SnpReport) => Promise<AmdCollateral> {
  const base = options.url ?? AMD_KDS;
  const get = kdsCache(options);

  async function fetchFor(report: SnpReport, product: AmdProduct): Promise<AmdCollateral> {
    const kind = report.signer === 'VLEK' ? 'VLEK' : 'VCEK';
    // One after the other: the service counts requests, and an unknown chip needs no more of them.
    const leaf = kind === 'VLEK' ? [] : await get(leafUrl(report, product, base), (bytes) => readLeaf(bytes, report));
    const authorities = await get(kdsChainUrl(kind, product, base), (bytes) => readChain(bytes, options.now()));
    const crls = await get(kdsCrlUrl(kind, product, base), (bytes) => readCrl(bytes, options.now()));
    return { certificates: [...leaf, ...authorities], crls };
  }

  return async (report) => {
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

function leafUrl(report: SnpReport, product: AmdProduct, base: string): string {
  const url = kdsLeafUrl(report, product, base);
  return url ?? refuse('collateral/missing', 'the report names no VCEK: it is not signed, or hides its chip');
}

/** A certificate of another key would be kept for years, so this is not left to the verifier. */
function readLeaf(bytes: Uint8Array, report: SnpReport): KdsAnswer {
  const certificate = parseCertificate(bytes);
  const leaf = isAmdLeaf(certificate) ? parseAmdLeaf(certificate) : undefined;
  const fits = leaf?.hardwareId && isOfChip(leaf.hardwareId, report) && equalBytes(leaf.tcb, report.reportedTcb);
  if (fits !== true) refuse('collateral/wrong-id', "AMD's KDS answers with the certificate of another key");
  return { objects: [bytes], freshUntilMs: certificate.notAfterMs, usableUntilMs: certificate.notAfterMs };
}

function readChain(bytes: Uint8Array, now: Date): KdsAnswer {
  const chain = parsePemChain(fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED'));
  const usableUntilMs = Math.min(...chain.map(({ notAfterMs }) => notAfterMs));
  return { objects: chain.map(({ der }) => der), freshUntilMs: now.getTime() + RENEWED_MS, usableUntilMs };
}

function readCrl(bytes: Uint8Array, now: Date): KdsAnswer {
  const { nextUpdateMs } = parseCrl(bytes);
  const freshUntilMs = Math.min(now.getTime() + RENEWED_MS, nextUpdateMs);
  return { objects: [bytes], freshUntilMs, usableUntilMs: nextUpdateMs };
}
