import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import {
  CfnError,
  challengeReplySchema,
  fromProblem,
  fromUtf8,
  kmsNonce,
  leaseStatusSchema,
  releaseReplySchema,
  sealTo,
  secretsNonce,
  secretsReplySchema,
  signStatement,
  type LeaseEvent,
  type ModelPackage,
  type ReleaseReply,
  type ReleaseRequest,
  type SecretsReply,
  type SecretsRequest,
} from '../../proto/index.ts';
import type { WrappedKey } from '../ipc/messages.ts';
import { ANSWER_KEY_BYTES, answerKeyInfo, isProven, PROOF_HEADER } from '../../proto/node.ts';
import type { EvidenceSource } from './evidence-source.ts';
import { readAnswer } from './read-answer.ts';
import { readLeaseEvents } from './read-lease-events.ts';

/** The KMS or key broker that a model's owner chose, as the model's manifest names it. */
export type Kms = ModelPackage['kms'];

/** What a release needs, apart from challenge and evidence. */
export interface ReleaseSubject extends Pick<ReleaseRequest, 'model' | 'functionManifest' | 'wrappingKey'> {
  /** Renews this lease, and states what was used under it: invocations. */
  readonly renew?: { readonly lease: string; readonly used: number };
}

export type SecretsSubject = Pick<SecretsRequest, 'functionManifest' | 'wrappingKey' | 'renew'>;
export type ReleasedSecrets = Omit<SecretsReply, 'leaseMs'> & Pick<Released, 'challenge' | 'endsAt'>;

export interface Released extends Omit<ReleaseReply, 'leaseMs' | 'wrappedKey'> {
  readonly challenge: string;
  readonly wrappedKey?: WrappedKey | undefined;
  /** On the clock of leases. Counted from when it was asked for: whoever holds up the answer does not stretch the lease. */
  readonly endsAt: number;
}

/** For secrets of functions; other key brokers have none. */
export interface SecretClient {
  /** As {@link KeyClient.release}, for a function's secrets. @param subject.renew a lease */
  releaseSecrets(kms: Kms, subject: SecretsSubject): Promise<ReleasedSecrets>;
}

export interface KeyClient {
  /**
   * Challenge, evidence, release (design §5). The answer's key is wrapped to `subject.wrappingKey`.
   *
   * @throws {CfnError} what the KMS says; `CFN_KMS_UNREACHABLE`; `CFN_KMS_MISMATCH` when what answered is not that KMS
   */
  release(kms: Kms, subject: ReleaseSubject): Promise<Released>;
  /** @returns what is left of the lease, in ms; not proven @throws {CfnError} `CFN_LEASE_ENDED` when it ended or was revoked */
  leaseRemainingMs(kms: Kms, lease: string): Promise<number>;
  /** What the KMS tells of this worker's leases, until the stream ends. Each line is proven. @throws {CfnError} as {@link release} */
  leaseEvents(kms: Kms, signal: AbortSignal): AsyncGenerator<LeaseEvent>;
  /** Signed by the receipt key: the key is gone from this worker, after so many invocations. */
  stateDropped(lease: string, reason: string, used: number): Promise<string>;
  reportDropped(kms: Kms, lease: string, statement: string): Promise<void>;
}

const REPLY_MS_MAX = 15_000;
/** Secrets are the longest answer. */
const REPLY_BYTES_MAX = 512 * 1024;

export function keyClient(deps: {
  readonly fetch: typeof fetch;
  readonly evidence: EvidenceSource;
  readonly workerId: string;
  readonly receiptKey: CryptoKey;
  readonly now: () => Date;
  readonly leaseClockMs: () => number;
}): KeyClient & SecretClient {
  const worker = deps.workerId;

  async function send(method: string, url: string, body: unknown, signal: AbortSignal): Promise<Response> {
    const init: RequestInit = { method, signal, redirect: 'error' };
    if (body !== undefined)
      Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    let response: Response;
    let refusal: string;
    try {
      response = await deps.fetch(url, init);
      if (response.ok) return response;
      refusal = await textOf(response, url);
    } catch (cause) {
      throw unreachable(url, cause);
    }
    throw problemOf(refusal) ?? new CfnError('CFN_KMS_UNREACHABLE', `the KMS answered ${response.status}`);
  }
  async function call(
    method: string,
    url: string,
    body?: unknown,
  ): Promise<{ readonly text: string; readonly proof: string }> {
    const response = await send(method, url, body, AbortSignal.timeout(REPLY_MS_MAX));
    try {
      return { text: await textOf(response, url), proof: response.headers.get(PROOF_HEADER) ?? '' };
    } catch (cause) {
      throw unreachable(url, cause);
    }
  }
  async function takeChallenge({ url }: Kms): Promise<string> {
    return parse(challengeReplySchema, (await call('POST', `${url}/v1/challenge`)).text).challenge;
  }
  /** Asks for what an appraisal leads to, of that KMS and no other. `askedAt` is on the clock of leases. */
  async function askProven(
    kms: Kms,
    path: string,
    challenge: string,
    nonce: Uint8Array,
    subject: object,
  ): Promise<{ readonly askedAt: number; readonly text: string }> {
    const evidence = await deps.evidence.collect(nonce);
    const key = randomBytes(ANSWER_KEY_BYTES);
    const answerKey = await sealTo(publicKeyOf(kms), key, answerKeyInfo(challenge));
    const askedAt = deps.leaseClockMs();
    const { text, proof } = await call('POST', `${kms.url}${path}`, { ...subject, challenge, evidence, answerKey });
    if (!isProven(key, text, proof)) throw mismatch(kms);
    return { askedAt, text };
  }

  return {
    async release(kms, { renew, ...subject }) {
      const challenge = await takeChallenge(kms);
      const nonce = await kmsNonce(challenge, subject.wrappingKey, subject.model, subject.functionManifest);
      const renewal = renew && {
        renew: renew.lease,
        usage: await signStatement('cfn-usage+jwt', { ...renew, worker, challenge }, deps.receiptKey, deps.now()),
      };
      const { askedAt, text } = await askProven(kms, '/v1/release', challenge, nonce, { ...subject, ...renewal });
      const { leaseMs, ...released } = parse(releaseReplySchema, text);
      return { ...released, challenge, endsAt: askedAt + leaseMs };
    },
    async releaseSecrets(kms, subject) {
      const challenge = await takeChallenge(kms);
      const nonce = await secretsNonce(challenge, subject.wrappingKey, subject.functionManifest);
      const { askedAt, text } = await askProven(kms, '/v1/secrets', challenge, nonce, subject);
      const { leaseMs, ...released } = parse(secretsReplySchema, text);
      return { ...released, challenge, endsAt: askedAt + leaseMs };
    },
    async leaseRemainingMs({ url }, lease) {
      const { text } = await call('GET', `${url}/v1/leases/${encodeURIComponent(lease)}`);
      return parse(leaseStatusSchema, text).remainingMs;
    },
    async *leaseEvents(kms, signal) {
      const challenge = await takeChallenge(kms);
      const key = randomBytes(ANSWER_KEY_BYTES);
      const answerKey = await sealTo(publicKeyOf(kms), key, answerKeyInfo(challenge));
      const claims = { worker, challenge, answerKey };
      const statement = await signStatement('cfn-lease-events+jwt', claims, deps.receiptKey, deps.now());
      const { body } = await send('POST', `${kms.url}/v1/leases/events`, { statement }, signal);
      yield* readLeaseEvents(body ?? [], key, () => mismatch(kms));
    },
    stateDropped: (lease, reason, used) =>
      signStatement('cfn-key-dropped+jwt', { lease, reason, worker, used }, deps.receiptKey, deps.now()),
    async reportDropped({ url }, lease, statement) {
      await call('POST', `${url}/v1/leases/${encodeURIComponent(lease)}/dropped`, { statement });
    },
  };
}

/** A key broker has none, and is asked by another client. */
function publicKeyOf({ publicKey }: Kms): string {
  if (publicKey === undefined) throw new CfnError('CFN_KMS_MISMATCH', 'the model names a key broker, and no KMS');
  return publicKey;
}
const unreachable = (url: string, cause: unknown): CfnError =>
  new CfnError('CFN_KMS_UNREACHABLE', `no answer from the KMS at ${new URL(url).origin}`, { cause });
const textOf = async (response: Response, url: string): Promise<string> =>
  fromUtf8(
    await readAnswer(response, REPLY_BYTES_MAX, (max) =>
      unreachable(url, new Error(`its answer is over ${max} bytes`)),
    ),
  );
const mismatch = ({ url }: Kms): CfnError =>
  new CfnError('CFN_KMS_MISMATCH', `what answers at ${new URL(url).origin} does not hold the key of the model's KMS`);

function parse<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new CfnError('CFN_KMS_UNREACHABLE', 'the KMS answered something else than its contract', { cause });
  }
}

function problemOf(text: string): CfnError | undefined {
  try {
    return fromProblem(JSON.parse(text));
  } catch {
    return undefined;
  }
}
