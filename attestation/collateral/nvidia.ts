import { fromBase64 } from '../evidence/base64.ts';
import { parseJsonObject } from '../evidence/json.ts';
import type { GpuReport, SwitchReport } from '../evidence/nvidia.ts';
import { parseOcspResponse } from '../evidence/ocsp.ts';
import { refuse } from '../evidence/reasons.ts';
import { parseRim, type Rim } from '../evidence/rim.ts';
import type { Certificate } from '../evidence/x509.ts';
import { Findings } from '../verifier/findings.ts';
import { rimNeedsOf } from '../verifier/nvidia/rim-id.ts';
import { beginRim, openRim, verifyRim } from '../verifier/nvidia/rim.ts';
import { mapKey } from '../verifier/pki/map-key.ts';
import { verifyOcspAnswer } from '../verifier/pki/ocsp.ts';
import { NVIDIA_RIM_ROOT } from '../verifier/trust-anchors.ts';
import { fetchBytes, fetchText, VendorRefusal, type HttpOptions } from './http.ts';
import { nonceExtension, writeOcspRequest } from './ocsp-request.ts';
import { renewingCache, type Renewable } from './renewing-cache.ts';

/** Largest answers, in bytes; RIMs have 26 kB and come in base64, OCSP responses 1 kB. */
const RIM_ANSWER_BYTES_MAX = 1024 * 1024;
const OCSP_ANSWER_BYTES_MAX = 64 * 1024;
const RIMS_MAX = 64;
const DEVICES_MAX = 32;
/** Certificates of one machine; 12 devices and their RIMs have some 60. */
const OCSP_AT_ONCE_MAX = 128;
/** Three per device and RIM; provisioners are shared, and boot ROMs are one per device. */
const OCSP_MAX = 1024;
/** RIMs are asked for again after a day: NVIDIA reissues them. */
const RIM_RENEWED_MS = 24 * 60 * 60_000;
/** How long RIMs are given out when the service does not answer; their signers' certificates end long after. */
const RIM_USABLE_MS = 30 * RIM_RENEWED_MS;

export interface NvidiaCollateralOptions extends HttpOptions {
  readonly now: () => Date;
  /** Origins of the services, or of caches in front of them. One that is left out is not asked. */
  readonly rimUrl: string | undefined;
  readonly ocspUrl: string | undefined;
  /** Random bytes for each OCSP request, 16 of them, where the responder repeats nonces; an answer without is then refused. */
  readonly nonce?: () => Uint8Array;
  /** SHA-256 of the root that RIMs are signed under, hexadecimal. The default is NVIDIA's. */
  readonly rimRoot?: string;
}

/** What a verifier takes beside reports: RIMs as XML, OCSP responses as DER. */
export interface NvidiaCollateral {
  readonly rims: readonly Uint8Array[];
  readonly ocsp: readonly Uint8Array[];
}

/**
 * Fetches what devices need from NVIDIA's RIM and OCSP services, each verified and kept as long as it can be used. A RIM that the
 * service does not have is left out, so that the verifier names it; an answer that says `revoked` is no failure here, as it is the
 * verifier who refuses for it. The device chains themselves are not verified.
 *
 * @returns a function of the devices' evidence and of RIMs that are at hand, whose signers are looked up, too. It throws CfnError `CFN_VENDOR_UNREACHABLE`; `collateral/…`, `certificate/…`,
 *   `revocation/…` and `parse/…` for answers that are not what was asked for.
 */
export function nvidiaCollateral(
  options: NvidiaCollateralOptions,
): (devices: readonly DeviceEvidence[], ownRims?: readonly Uint8Array[]) => Promise<NvidiaCollateral> {
  const { rimUrl, ocspUrl } = options;
  const rims = renewingCache<FetchedRim>(RIMS_MAX, options.now);
  const answers = renewingCache<Uint8Array>(OCSP_MAX, options.now);

  async function rim(id: string, url: string): Promise<FetchedRim | undefined> {
    try {
      return await rims(id, () => fetchRim(id, url, options));
    } catch (error) {
      if (error instanceof VendorRefusal && error.answered === 404) return undefined;
      throw error;
    }
  }

  async function fetchRims(devices: readonly DeviceEvidence[]): Promise<FetchedRim[]> {
    if (rimUrl === undefined) return [];
    const ids = new Set(devices.flatMap((device) => rimNeedsOf(device).flatMap(({ id }) => id ?? [])));
    const found = await Promise.all([...ids].map((id) => rim(id, rimUrl)));
    return found.filter((item) => item !== undefined);
  }

  function fetchAnswers(chains: readonly (readonly Certificate[])[]): Promise<Uint8Array[]> {
    if (ocspUrl === undefined) return Promise.resolve([]);
    const pairs = new Map<string, readonly [Certificate, Certificate]>();
    for (const chain of chains) for (const pair of pairsOf(chain)) pairs.set(mapKey(pair[0].der), pair);
    if (pairs.size > OCSP_AT_ONCE_MAX)
      refuse('parse/length', `${pairs.size} certificates, at most ${OCSP_AT_ONCE_MAX} are looked up at once`);
    return Promise.all(
      [...pairs].map(([key, [certificate, issuer]]) =>
        answers(key, () => fetchOcsp(certificate, issuer, ocspUrl, options)),
      ),
    );
  }

  return async (devices, ownRims = []) => {
    if (devices.length > DEVICES_MAX)
      refuse('parse/length', `${devices.length} devices, at most ${DEVICES_MAX} are taken`);
    const found = await fetchRims(devices);
    const ocsp = await fetchAnswers([
      ...devices.map(({ chain }) => chain.slice(1)), // leaves have no revocation
      ...found.map((item) => item.rim.signature.certificates),
      ...ownRims.map((xml) => parseRim(xml).signature.certificates),
    ]);
    return { rims: found.map(({ xml }) => xml), ocsp };
  };
}

export interface DeviceEvidence {
  readonly report: GpuReport | SwitchReport;
  readonly chain: readonly Certificate[];
}

interface FetchedRim {
  readonly xml: Uint8Array;
  readonly rim: Rim;
}

async function fetchRim(id: string, origin: string, options: NvidiaCollateralOptions): Promise<Renewable<FetchedRim>> {
  const url = `${origin}/v1/rim/${encodeURIComponent(id)}`;
  const what = "NVIDIA's RIM service";
  const text = await fetchText({ what, url, bytesMax: RIM_ANSWER_BYTES_MAX }, options);
  const answer = parseJsonObject(text, { what: `answer of ${what}`, charactersMax: RIM_ANSWER_BYTES_MAX });
  if (answer['id'] !== id) refuse('collateral/wrong-id', `${what} answers ${id} with ${JSON.stringify(answer['id'])}`);
  if (typeof answer['rim'] !== 'string') refuse('parse/json', `${what} answers ${id} without a RIM`);
  const xml = fromBase64(answer['rim'].replaceAll(/\s+/g, ''));
  const now = options.now();
  const rim = await requireGenuineRim(xml, options.rimRoot ?? NVIDIA_RIM_ROOT, now);
  const endsMs = Math.min(...rim.signature.certificates.map(({ notAfterMs }) => notAfterMs));
  const usableUntilMs = Math.min(now.getTime() + RIM_USABLE_MS, endsMs);
  return { value: { xml, rim }, freshUntilMs: now.getTime() + RIM_RENEWED_MS, usableUntilMs };
}

async function requireGenuineRim(xml: Uint8Array, root: string, now: Date): Promise<Rim> {
  const findings = new Findings();
  const supplied = await openRim(xml, root, undefined);
  await verifyRim(beginRim(supplied, root), now, undefined, findings);
  const [failure] = findings.failures;
  if (failure !== undefined) refuse(failure.reason, `fetched ${failure.detail}`);
  return supplied.rim;
}

async function fetchOcsp(
  certificate: Certificate,
  issuer: Certificate,
  url: string,
  options: NvidiaCollateralOptions,
): Promise<Renewable<Uint8Array>> {
  const nonce = options.nonce?.();
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request', accept: 'application/ocsp-response' },
    body: await writeOcspRequest(certificate, issuer, nonce),
  };
  const der = await fetchBytes(
    { what: "NVIDIA's OCSP responder", url, init, bytesMax: OCSP_ANSWER_BYTES_MAX },
    options,
  );
  const response = parseOcspResponse(der);
  const answer = await verifyOcspAnswer(response, certificate, issuer, {
    now: options.now(),
    what: 'fetched',
    ...(nonce && { nonce: nonceExtension(nonce) }),
  });
  const { thisUpdateMs, nextUpdateMs } = answer;
  return { value: der, freshUntilMs: (thisUpdateMs + nextUpdateMs) / 2, usableUntilMs: nextUpdateMs };
}

/** Each certificate with its issuer; the root has none that could answer. */
function pairsOf(chain: readonly Certificate[]): (readonly [Certificate, Certificate])[] {
  return chain.flatMap((certificate, i) => {
    const issuer = chain[i + 1];
    return issuer === undefined ? [] : [[certificate, issuer] as const];
  });
}
