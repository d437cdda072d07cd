import { equalBytes } from '../../proto/index.ts';
import { fromBase64 } from '../evidence/base64.ts';
import { parseJsonObject } from '../evidence/json.ts';
import type { GpuReport, SwitchReport } from '../evidence/nvidia.ts';
import { parseOcspResponse } from '../evidence/ocsp.ts';
import { refuse } from '../evidence/reasons.ts';
import { parseRim, type Rim } from '../evidence/rim.ts';
import type { Certificate } from '../evidence/x509.ts';
import { rimNeedsOf } from '../verifier/nvidia/rim-id.ts';
import { mapKey } from '../verifier/pki/map-key.ts';
import { findOcspAnswer } from '../verifier/pki/ocsp.ts';
import { fetchBytes, fetchText, VendorRefusal, type HttpOptions } from './http.ts';
import { nonceExtension, writeOcspRequest } from './ocsp-request.ts';
import { renewingCache, type Renewable } from './renewing-cache.ts';

const NVIDIA_RIM_SERVICE = 'https://rim.attestation.nvidia.com';
const NVIDIA_OCSP_SERVICE = 'https://ocsp.ndis.nvidia.com';
/** Largest answers, in bytes; RIMs have 26 kB and come in base64, OCSP responses 1 kB. */
const RIM_ANSWER_BYTES_MAX = 1024 * 1024;
const OCSP_ANSWER_BYTES_MAX = 64 * 1024;
const RIMS_MAX = 64;
/** Three per device and RIM; provisioners are shared, and boot ROMs are one per device. */
const OCSP_MAX = 1024;
/** RIMs are asked for again after a day: NVIDIA reissues them. */
const RIM_RENEWED_MS = 24 * 60 * 60_000;
/** How long RIMs are given out when the service does not answer; their signers' certificates end long after. */
const RIM_USABLE_MS = 30 * RIM_RENEWED_MS;

export interface NvidiaCollateralOptions extends HttpOptions {
  readonly now: () => Date;
  /** Origins of the services, or of caches in front of them. The defaults are NVIDIA's. */
  readonly rimUrl?: string;
  readonly ocspUrl?: string;
  /** Random bytes for each OCSP request, 16 of them, where the responder repeats nonces; an answer without is then refused. */
  readonly nonce?: () => Uint8Array;
}

/** What a verifier takes beside reports: RIMs as XML, OCSP responses as DER. */
export interface NvidiaCollateral {
  readonly rims: readonly Uint8Array[];
  readonly ocsp: readonly Uint8Array[];
}

/**
 * Fetches what devices need from NVIDIA's RIM and OCSP services, each kept as long as it can be used. A RIM that the service does
 * not have is left out, so that the verifier names it. Nothing of it is verified here.
 *
 * @returns a function of the devices' evidence. It throws CfnError `CFN_VENDOR_UNREACHABLE`; `collateral/wrong-id`,
 *   `revocation/wrong-issuer`, `revocation/nonce-missing` and `parse/…` for answers that are not what was asked for.
 */
export function nvidiaCollateral(
  options: NvidiaCollateralOptions,
): (devices: readonly DeviceEvidence[]) => Promise<NvidiaCollateral> {
  const rims = renewingCache<FetchedRim>(RIMS_MAX, options.now);
  const answers = renewingCache<Uint8Array>(OCSP_MAX, options.now);

  async function rim(id: string): Promise<FetchedRim | undefined> {
    try {
      return await rims(id, () => fetchRim(id, options));
    } catch (error) {
      if (error instanceof VendorRefusal && error.answered === 404) return undefined;
      throw error;
    }
  }

  return async (devices) => {
    const ids = [...new Set(devices.flatMap((device) => rimNeedsOf(device).flatMap(({ id }) => id ?? [])))];
    const found = (await Promise.all(ids.map(rim))).filter((item) => item !== undefined);
    const chains = [
      ...devices.map(({ chain }) => chain.slice(1)), // leaves have no revocation
      ...found.map((item) => item.rim.signature.certificates),
    ];
    const pairs = new Map<string, readonly [Certificate, Certificate]>();
    for (const chain of chains) for (const pair of pairsOf(chain)) pairs.set(mapKey(pair[0].der), pair);
    const ocsp = [...pairs].map(([key, [certificate, issuer]]) =>
      answers(key, () => fetchOcsp(certificate, issuer, options)),
    );
    return { rims: found.map(({ xml }) => xml), ocsp: await Promise.all(ocsp) };
  };
}

interface DeviceEvidence {
  readonly report: GpuReport | SwitchReport;
  readonly chain: readonly Certificate[];
}

interface FetchedRim {
  readonly xml: Uint8Array;
  readonly rim: Rim;
}

async function fetchRim(id: string, options: NvidiaCollateralOptions): Promise<Renewable<FetchedRim>> {
  const url = `${options.rimUrl ?? NVIDIA_RIM_SERVICE}/v1/rim/${encodeURIComponent(id)}`;
  const what = "NVIDIA's RIM service";
  const text = await fetchText({ what, url, bytesMax: RIM_ANSWER_BYTES_MAX }, options);
  const answer = parseJsonObject(text, { what: `answer of ${what}`, charactersMax: RIM_ANSWER_BYTES_MAX });
  if (answer['id'] !== id) refuse('collateral/wrong-id', `${what} answers ${id} with ${JSON.stringify(answer['id'])}`);
  if (typeof answer['rim'] !== 'string') refuse('parse/json', `${what} answers ${id} without a RIM`);
  const xml = fromBase64(answer['rim'].replaceAll(/\s+/g, ''));
  const nowMs = options.now().getTime();
  const value = { xml, rim: parseRim(xml) };
  return { value, freshUntilMs: nowMs + RIM_RENEWED_MS, usableUntilMs: nowMs + RIM_USABLE_MS };
}

async function fetchOcsp(
  certificate: Certificate,
  issuer: Certificate,
  options: NvidiaCollateralOptions,
): Promise<Renewable<Uint8Array>> {
  const nonce = options.nonce?.();
  const name = certificate.subjectCommonName;
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request', accept: 'application/ocsp-response' },
    body: await writeOcspRequest(certificate, issuer, nonce),
  };
  const url = options.ocspUrl ?? NVIDIA_OCSP_SERVICE;
  const der = await fetchBytes(
    { what: "NVIDIA's OCSP responder", url, init, bytesMax: OCSP_ANSWER_BYTES_MAX },
    options,
  );
  const response = parseOcspResponse(der);
  // An answer for another certificate would be kept until it ends, so this is not left to the verifier.
  const answer = await findOcspAnswer(response, certificate, issuer);
  if (answer === undefined) refuse('revocation/wrong-issuer', `the OCSP responder answers for others than ${name}`);
  if (nonce !== undefined && (response.nonce === undefined || !equalBytes(response.nonce, nonceExtension(nonce))))
    refuse('revocation/nonce-missing', `the OCSP responder does not answer our nonce for ${name}`);
  const { thisUpdateMs, nextUpdateMs = thisUpdateMs } = answer;
  return { value: der, freshUntilMs: (thisUpdateMs + nextUpdateMs) / 2, usableUntilMs: nextUpdateMs };
}

/** Each certificate with its issuer; the root has none that could answer. */
function pairsOf(chain: readonly Certificate[]): (readonly [Certificate, Certificate])[] {
  return chain.flatMap((certificate, i) => {
    const issuer = chain[i + 1];
    return issuer === undefined ? [] : [[certificate, issuer] as const];
  });
}
