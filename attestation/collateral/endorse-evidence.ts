import {
  devicesOf,
  endorsementsSchema,
  fromBase64url,
  fromUtf8,
  mergeEndorsements,
  NO_ENDORSEMENTS,
  toBase64url,
  utf8,
  type Endorsements,
  type Evidence,
} from '../../proto/index.ts';
import { parseNvidiaReport } from '../evidence/nvidia.ts';
import { refuse } from '../evidence/reasons.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { parsePemChain } from '../evidence/x509.ts';
import type { VendorServices } from './vendor-services.ts';

/** What endorsements are fetched for. */
export type EndorsableEvidence = Pick<Evidence, 'tee' | 'gpus' | 'switches'> & { readonly quote: Uint8Array };

/**
 * Fetches what a verifier takes beside an evidence document, from the services that are there; what is known already comes after it.
 * A VCEK that is known is not asked for.
 * Nothing is fetched for a simulated platform, which no vendor knows.
 *
 * @throws {CfnError} `CFN_VENDOR_UNREACHABLE`, or the refusal of what was answered; `collateral/…` when there is more of it than
 *   a document takes.
 */
export async function endorseEvidence(
  { tee, quote, ...evidence }: EndorsableEvidence,
  { intel, amd, nvidia }: VendorServices,
  known: Endorsements = NO_ENDORSEMENTS,
): Promise<Endorsements> {
  const named = devicesOf(evidence);
  let fetched = NO_ENDORSEMENTS;
  if (tee === 'tdx' && intel !== undefined) {
    const { pckCrl, rootCaCrl, ...texts } = await intel(parseTdxQuote(quote));
    fetched = {
      ...fetched,
      intel: [{ ...texts, pckCrl: toBase64url(pckCrl), rootCrl: toBase64url(rootCaCrl) }],
    };
  }
  if (tee === 'snp' && amd !== undefined) {
    const { certificates, crls } = await amd(
      parseSnpReport(quote),
      known.amd.certificates.map((der) => fromBase64url(der, 'CFN_EVIDENCE_MALFORMED')),
    );
    fetched = {
      ...fetched,
      amd: { certificates: certificates.map(toBase64url), crls: crls.map(toBase64url) },
    };
  }
  if (tee !== 'simulated' && nvidia !== undefined && named.length > 0) {
    const devices = named.map(({ report, certificates }) => ({
      report: parseNvidiaReport(fromBase64url(report, 'CFN_EVIDENCE_MALFORMED')),
      chain: parsePemChain(certificates),
    }));
    const { rims, ocsp } = await nvidia(devices, known.nvidia.rims.map(utf8));
    fetched = {
      ...fetched,
      nvidia: { rims: rims.map((xml) => fromUtf8(xml)), ocsp: ocsp.map(toBase64url), crls: [] },
    };
  }
  const merged = mergeEndorsements(fetched, known);
  const checked = endorsementsSchema.safeParse(merged);
  if (!checked.success) refuse('parse/length', 'the services answer with more than an evidence document takes');
  return merged;
}
