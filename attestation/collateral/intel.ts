import { equalBytes, fromHex, fromUtf8, toHex } from '../../proto/index.ts';
import { writeIntelCollateral, type IntelCollateralParts } from '../evidence/intel-collateral.ts';
import { refuse } from '../evidence/reasons.ts';
import type { TdxQuote } from '../evidence/tdx.ts';
import { Findings } from '../verifier/findings.ts';
import { checkCollateralDates, collateralEndsMs } from '../verifier/intel/collateral.ts';
import { readPckChain } from '../verifier/intel/quote.ts';
import { verifiedCollateral } from '../verifier/intel/verify.ts';
import { INTEL_SGX_ROOT } from '../verifier/trust-anchors.ts';
import { fetchAnswer, type HttpOptions } from './http.ts';
import { renewingCache, type Renewable } from './renewing-cache.ts';

const INTEL_PCS = 'https://api.trustedservices.intel.com';
const INTEL_ROOT_CRL = 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der';
/** Kinds of platform kept; a fleet has a handful. */
const PLATFORMS_MAX = 64;
/** Largest answer, in bytes; CRLs and TCB infos have under 20 kB. */
const ANSWER_BYTES_MAX = 1024 * 1024;
/** Asked for again after a day, though it counts for a month, so that revocations and TCB recoveries become known. */
const RENEWED_MS = 24 * 60 * 60_000;

export interface IntelCollateralOptions extends HttpOptions {
  readonly now: () => Date;
  /** Origin of Intel's service or of a PCCS, with the path before `/tdx/certification/v4`. The default is Intel's. */
  readonly url?: string;
  /** Where the CRL of the root is. The default is Intel's, or the PCCS's own. */
  readonly rootCrlUrl?: string;
  /** SHA-256 of the root certificate, hexadecimal. The default is Intel's. */
  readonly root?: string;
}

/**
 * Fetches the collateral of a quote's platform (API v4), verifies it, and keeps it by kind of platform. Callers at the same time
 * share one fetch. What cannot be renewed is given out for as long as it counts.
 *
 * @returns a function that gives the collateral of a quote's platform. It throws CfnError
 *   `CFN_VENDOR_UNREACHABLE`, or the refusal of what was answered.
 */
export function intelCollateral(options: IntelCollateralOptions): (quote: TdxQuote) => Promise<IntelCollateralParts> {
  const kept = renewingCache<IntelCollateralParts>(PLATFORMS_MAX, options.now);
  return async (quote) => {
    const platform = platformOf(quote);
    return kept(`${platform.ca} ${toHex(platform.fmspc)}`, () => fetchCollateral(platform, options));
  };
}

interface Platform {
  readonly fmspc: Uint8Array;
  /** Which of Intel's CAs issued the PCK certificate. */
  readonly ca: 'platform' | 'processor';
}

/** What to ask for. Nothing of the quote is verified yet, but another platform's collateral cannot do harm. */
function platformOf(quote: TdxQuote): Platform {
  const { ca, extension } = readPckChain(quote);
  return { fmspc: extension.fmspc, ca: ca.subjectCommonName.includes('Processor CA') ? 'processor' : 'platform' };
}

async function fetchCollateral(
  { fmspc, ca }: Platform,
  options: IntelCollateralOptions,
): Promise<Renewable<IntelCollateralParts>> {
  const { url = INTEL_PCS, root = INTEL_SGX_ROOT } = options;
  const rootCrlUrl =
    options.rootCrlUrl ?? (url === INTEL_PCS ? INTEL_ROOT_CRL : `${url}/sgx/certification/v4/rootcacrl`);
  const get = (address: string, chainHeader?: string): Promise<Answer> => fetchWithChain(address, chainHeader, options);
  const [tcbInfo, qeIdentity, pckCrl, rootCaCrl] = await Promise.all([
    get(`${url}/tdx/certification/v4/tcb?fmspc=${toHex(fmspc).toUpperCase()}`, 'TCB-Info-Issuer-Chain'),
    get(`${url}/tdx/certification/v4/qe/identity`, 'SGX-Enclave-Identity-Issuer-Chain'),
    get(`${url}/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`, 'SGX-PCK-CRL-Issuer-Chain'),
    get(rootCrlUrl),
  ]);
  const parts = {
    tcbInfo: fromUtf8(tcbInfo.bytes, 'CFN_EVIDENCE_MALFORMED'),
    tcbInfoIssuerChain: tcbInfo.chain,
    qeIdentity: fromUtf8(qeIdentity.bytes, 'CFN_EVIDENCE_MALFORMED'),
    qeIdentityIssuerChain: qeIdentity.chain,
    pckCrl: derOf(pckCrl.bytes),
    pckCrlIssuerChain: pckCrl.chain,
    rootCaCrl: derOf(rootCaCrl.bytes),
  };
  const usableUntilMs = await requireUsable(parts, fmspc, root, options.now());
  return { value: parts, freshUntilMs: options.now().getTime() + RENEWED_MS, usableUntilMs };
}

/** A wrong answer must not be kept for a day. @returns when the first of its parts ends, in ms since the epoch */
async function requireUsable(parts: IntelCollateralParts, fmspc: Uint8Array, root: string, now: Date): Promise<number> {
  const document = writeIntelCollateral(parts);
  const findings = new Findings();
  const verified = await verifiedCollateral(document, root, findings);
  if (verified !== undefined) await checkCollateralDates(verified, now, findings);
  const [failure] = findings.failures;
  if (failure !== undefined) refuse(failure.reason, `fetched collateral: ${failure.detail}`);
  if (verified === undefined || !equalBytes(verified.tcbInfo.fmspc, fmspc))
    refuse('collateral/fmspc-mismatch', `the service answers with collateral of another platform than ${toHex(fmspc)}`);
  return collateralEndsMs(verified);
}

interface Answer {
  readonly bytes: Uint8Array;
  /** PEM, from the header that was named. */
  readonly chain: string;
}

async function fetchWithChain(url: string, header: string | undefined, options: HttpOptions): Promise<Answer> {
  const request = { what: "Intel's collateral service", url, bytesMax: ANSWER_BYTES_MAX };
  const { bytes, headers } = await fetchAnswer(request, options);
  if (header === undefined) return { bytes, chain: '' };
  const encoded = headers.get(header) ?? refuse('parse/pem', `the service answers without ${header}`);
  try {
    return { bytes, chain: decodeURIComponent(encoded) };
  } catch (cause) {
    refuse('parse/pem', `${header} is not URL-encoded`, { cause });
  }
}

/** Intel answers with DER, a PCCS with its hexadecimal digits. */
function derOf(bytes: Uint8Array): Uint8Array {
  if (bytes[0] === 0x30 && bytes[1] !== undefined && bytes[1] >= 0x80) return bytes;
  return fromHex(fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED').trim().toLowerCase(), 'CFN_EVIDENCE_MALFORMED');
}
