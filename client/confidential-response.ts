import type { AttestationResult } from '../attestation/verifier/index.ts';
import { CfnError, type KeyExchange } from '../proto/index.ts';
import { streamChunks, toStream } from './http.ts';
import type { OpenedResponse } from './open.ts';
import type { VerifiedReceipt } from './receipt-check.ts';

/** What stands behind an answer. */
export interface Confidentiality {
  /** No hardware vouches for the worker: whoever runs the machine can read everything. */
  readonly simulated: boolean;
  /** The worker that the request was sealed to, as it was appraised. */
  readonly worker: AttestationResult;
  /** What its evidence says. */
  readonly claims: AttestationResult['claims'];
  /** Checks that were not made, and why: by the policy's own choice, or because they do not apply. */
  readonly skipped: readonly { readonly check: string; readonly reason: string }[];
  /** Digest of the evidence, 64 hexadecimal digits: what receipts name. */
  readonly evidenceDigest: string;
  /** The function version that alone could open the request: the digest of its signed manifest. */
  readonly version: string;
  /** `X25519` alone where worker or client have no hybrid: recorded today, it could be opened by a quantum computer. */
  readonly keyExchange: KeyExchange;
  /** Resolves once the body was read to its end; rejects with what the body throws. */
  readonly receipt: Promise<VerifiedReceipt>;
}

/** A Response whose body ends normally only when the answer was whole and its receipt holds. */
export type ConfidentialResponse = Response & { readonly confidentiality: Confidentiality };

export function confidentialityOf(
  worker: AttestationResult,
  rest: Pick<Confidentiality, 'version' | 'keyExchange' | 'receipt'>,
): Confidentiality {
  return {
    simulated: worker.simulated,
    worker,
    claims: worker.claims,
    skipped: worker.findings.flatMap((finding) =>
      finding.outcome === 'skipped' ? [{ check: finding.check, reason: finding.detail }] : [],
    ),
    evidenceDigest: worker.evidenceDigest,
    ...rest,
  };
}

const NULL_BODY_STATUS: ReadonlySet<number> = new Set([101, 103, 204, 205, 304]);

export async function toResponse(
  { status, headers, body }: OpenedResponse,
  seen: { readonly url: URL; readonly redirected: boolean },
  confidentiality: Confidentiality,
): Promise<ConfidentialResponse> {
  let stream: ReadableStream<Uint8Array<ArrayBuffer>> | null = toStream(body);
  if (NULL_BODY_STATUS.has(status)) {
    // Response takes no body for these; it is read here, so that the receipt is checked all the same.
    for await (const piece of streamChunks(stream)) {
      if (piece.length > 0) throw new CfnError('CFN_RESPONSE_MALFORMED', `an answer with status ${status} has content`);
    }
    stream = null;
  }
  const response = new Response(stream, { status, headers });
  const url = new URL(seen.url);
  url.hash = '';
  const own = { url: url.href, redirected: seen.redirected, confidentiality };
  for (const [name, value] of Object.entries(own)) Object.defineProperty(response, name, { value, enumerable: true });
  return response as ConfidentialResponse;
}
