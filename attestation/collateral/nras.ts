import { toHex, utf8 } from '../../proto/index.ts';
import { fetchText, type HttpOptions } from './http.ts';

/** Answers have 2.5 KiB per device. */
const ANSWER_BYTES_MAX = 1024 * 1024;

export interface NrasService extends HttpOptions {
  /** Origin, such as `https://nras.attestation.nvidia.com`. */
  readonly url: string;
  /** v3 answers with claims of version 2.0, v4 with 3.0. */
  readonly version: 'v3' | 'v4';
  /** Sent as bearer token; the public service asks for none. */
  readonly serviceKey?: string;
}

export interface NrasRequest {
  readonly device: 'gpu' | 'switch';
  readonly arch: 'HOPPER' | 'BLACKWELL' | 'LS10';
  /** The 32 bytes that every device answered. */
  readonly nonce: Uint8Array;
  readonly evidence: readonly {
    readonly report: Uint8Array;
    /** PEM, leaf first. */
    readonly certificates: string;
  }[];
}

/**
 * Sends device evidence to NVIDIA's Remote Attestation Service, and gives its answer as it came: `verifyNras` takes it from there.
 * NVIDIA thereby learns which device runs where.
 *
 * @throws {CfnError} `CFN_VENDOR_UNREACHABLE`
 */
export function requestNras(request: NrasRequest, service: NrasService): Promise<string> {
  const { device, arch, nonce, evidence } = request;
  const body = {
    nonce: toHex(nonce),
    arch,
    ...(service.version === 'v4' ? { claims_version: '3.0' } : {}),
    evidence_list: evidence.map(({ report, certificates }) => ({
      certificate: base64(utf8(certificates)),
      evidence: base64(report),
      arch,
    })),
  };
  const headers = {
    'content-type': 'application/json',
    accept: 'application/json',
    ...(service.serviceKey === undefined ? {} : { authorization: `Bearer ${service.serviceKey}` }),
  };
  const url = new URL(`/${service.version}/attest/${device}`, service.url).href;
  const init = { method: 'POST', headers, body: JSON.stringify(body) };
  return fetchText({ what: 'NRAS', url, init, bytesMax: ANSWER_BYTES_MAX }, service);
}

function base64(bytes: Uint8Array): string {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}
