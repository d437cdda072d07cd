import { SignJWT } from 'jose';
import type { z } from 'zod';
import {
  CfnError,
  challengeReplySchema,
  fromProblem,
  kmsNonce,
  leaseStatusSchema,
  releaseReplySchema,
  type ReleaseReply,
  type ReleaseRequest,
} from '../../proto/index.ts';
import type { EvidenceSource } from './evidence-source.ts';

/** What a release needs, apart from challenge and evidence. */
export type ReleaseSubject = Omit<ReleaseRequest, 'challenge' | 'evidence'>;

export interface KeyClient {
  /** Challenge, evidence, release (design §5). The answer's key is wrapped to `subject.wrappingKey`. */
  release(kmsUrl: string, subject: ReleaseSubject): Promise<ReleaseReply & { readonly challenge: string }>;
  /** @throws {CfnError} `CFN_LEASE_ENDED` when it ended or was revoked */
  checkLease(kmsUrl: string, lease: string): Promise<void>;
  /** Tells the KMS, signed by the receipt key, that the key is gone from this worker. */
  reportDropped(kmsUrl: string, lease: string, reason: string): Promise<void>;
}

const REPLY_MS_MAX = 15_000;

export function keyClient(deps: {
  readonly fetch: typeof fetch;
  readonly evidence: EvidenceSource;
  readonly workerId: string;
  readonly receiptKey: CryptoKey;
  readonly now: () => Date;
}): KeyClient {
  async function call<T>(
    method: string,
    url: string,
    schema: z.ZodType<T> | undefined,
    body?: unknown,
  ): Promise<T | undefined> {
    const init: RequestInit = { method, signal: AbortSignal.timeout(REPLY_MS_MAX), redirect: 'error' };
    if (body !== undefined)
      Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    let response: Response;
    let text: string;
    try {
      response = await deps.fetch(url, init);
      text = await response.text();
    } catch (cause) {
      throw new CfnError('CFN_KMS_UNREACHABLE', `no answer from the KMS at ${new URL(url).origin}`, { cause });
    }
    if (!response.ok)
      throw problemOf(text) ?? new CfnError('CFN_KMS_UNREACHABLE', `the KMS answered ${response.status}`);
    if (schema === undefined) return undefined;
    const parsed = schema.safeParse(JSON.parse(text));
    if (!parsed.success) throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS answered something else than its contract');
    return parsed.data;
  }

  return {
    async release(kmsUrl, subject) {
      const reply = await call('POST', `${kmsUrl}/v1/challenge`, challengeReplySchema);
      const challenge = reply?.challenge ?? '';
      const evidence = await deps.evidence.collect(
        await kmsNonce(challenge, subject.wrappingKey, subject.model, subject.functionManifest),
      );
      const released = await call('POST', `${kmsUrl}/v1/release`, releaseReplySchema, {
        ...subject,
        challenge,
        evidence,
      });
      if (released === undefined) throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS gave no answer to a release');
      return { ...released, challenge };
    },
    async checkLease(kmsUrl, lease) {
      await call('GET', `${kmsUrl}/v1/leases/${encodeURIComponent(lease)}`, leaseStatusSchema);
    },
    async reportDropped(kmsUrl, lease, reason) {
      const statement = await new SignJWT({ lease, reason, worker: deps.workerId })
        .setProtectedHeader({ alg: 'EdDSA', typ: 'cfn-key-dropped+jwt' })
        .setIssuedAt(deps.now())
        .sign(deps.receiptKey);
      await call('POST', `${kmsUrl}/v1/leases/${encodeURIComponent(lease)}/dropped`, undefined, { statement });
    },
  };
}

function problemOf(text: string): CfnError | undefined {
  try {
    return fromProblem(JSON.parse(text));
  } catch {
    return undefined;
  }
}
