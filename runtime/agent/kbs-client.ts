import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { decodeJwt, type JWTPayload } from 'jose';
import type { z } from 'zod';
import { cocoDevices, cocoEvidence, cocoKind } from '../../attestation/attester/index.ts';
import {
  CfnError,
  digestSchema,
  frame,
  fromUtf8,
  isKbsUrl,
  KBS_COOKIE,
  KBS_HASHES,
  KBS_PATH,
  KBS_VERSION,
  kbsChallengeSchema,
  kbsDeviceNonce,
  kbsErrorName,
  kbsHashOf,
  kbsJweSchema,
  kbsRecourse,
  kbsReportData,
  kbsTokenSchema,
  KEY_LEASE_MS,
  LEASE_BEAT_MS,
  parseKbsUrl,
  parseTeePubkey,
  sha256Hex,
  utf8,
  type KbsBinding,
  type KbsJwe,
  type KbsRecourse,
} from '../../proto/index.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { KeyClient, Kms } from './key-client.ts';
import { readAnswer } from './read-answer.ts';

const REPLY_MS_MAX = 15_000;
/** Largest answer of a broker, in bytes: a token with the claims of eight GPUs is below it. */
const REPLY_BYTES_MAX = 2 * 1024 * 1024;
/** How often evidence is given before a broker's wish to see it again counts as a refusal. */
const ATTESTATIONS_MAX = 2;

/** A broker's refusal, before it is known what comes of it. */
class BrokerRefused extends Error {
  readonly recourse: KbsRecourse;
  constructor(recourse: KbsRecourse, message: string) {
    super(message);
    this.recourse = recourse;
  }
}

/**
 * Gets data keys from key brokers that others run (`proto/kbs.ts`). A broker knows no leases: here one is the life of its token, ten
 * minutes at most, and it is renewed by attesting anew and asking for the resource again, which the engine does not open.
 */
export function kbsClient(deps: {
  readonly fetch: typeof fetch;
  readonly evidence: EvidenceSource;
  readonly now: () => Date;
  readonly leaseClockMs: () => number;
}): Omit<KeyClient, 'stateDropped'> {
  /** Lease → when it ends, on the clock of leases. */
  const ends = new Map<string, number>();
  return {
    async release({ url }, { wrappingKey, renew }) {
      const { broker, resource } = parseKbsUrl(url);
      const teePubkey = parseTeePubkey(wrappingKey);
      for (let attestation = 1; ; attestation++) {
        try {
          const askedAt = deps.leaseClockMs();
          const { cookie, claims } = await attest(`${broker}${KBS_PATH}`, teePubkey, deps);
          const wrappedKey = await getResource(`${broker}${KBS_PATH}/resource/${resource}`, cookie, deps);
          const { leaseMs, policy } = termsOf(claims, deps.now());
          // Brokers do not say under which policy; then this names who decided, and not by what.
          const decided = policy ?? (await sha256Hex(frame('cfn/kbs-broker/v1', utf8(url))));
          const lease = renew?.lease ?? `kbs-${randomUUID()}`;
          const endsAt = askedAt + leaseMs;
          ends.set(lease, endsAt);
          return { lease, endsAt, policy: decided, wrappedKey, challenge: '' };
        } catch (error) {
          if (!(error instanceof BrokerRefused)) throw error;
          if (error.recourse === 'attest-again' && attestation < ATTESTATIONS_MAX) continue;
          if (error.recourse === 'retry')
            throw new CfnError('CFN_KMS_UNREACHABLE', `the broker cannot answer now: ${error.message}`);
          throw new CfnError('CFN_BROKER_DENIED', `the broker refuses: ${error.message}`);
        }
      }
    },
    // There is nobody to ask, hear or tell; the token's end is the lease's.
    leaseRemainingMs: async (_, lease) => (ends.get(lease) ?? -Infinity) - deps.leaseClockMs(),
    async *leaseEvents(_, signal) {
      for (let n = 0; !signal.aborted; n++) {
        yield { n };
        await setTimeout(LEASE_BEAT_MS, undefined, { signal }).catch(() => undefined);
      }
    },
    async reportDropped(_, lease) {
      ends.delete(lease);
    },
  };
}

/** Of two clients the one for the kind of key service that a URL names. */
export function byService(kms: KeyClient, broker: Omit<KeyClient, 'stateDropped'>): KeyClient {
  const of = ({ url }: Kms): Omit<KeyClient, 'stateDropped'> => (isKbsUrl(url) ? broker : kms);
  return {
    release: (service, subject) => of(service).release(service, subject),
    leaseRemainingMs: (service, lease) => of(service).leaseRemainingMs(service, lease),
    leaseEvents: (service, signal) => of(service).leaseEvents(service, signal),
    stateDropped: (lease, reason, used) => kms.stateDropped(lease, reason, used),
    reportDropped: (service, lease, statement) => of(service).reportDropped(service, lease, statement),
  };
}

type Deps = Parameters<typeof kbsClient>[0];

/** Request, challenge, attestation: evidence that binds nonce and engine's key. */
async function attest(
  base: string,
  teePubkey: KbsBinding['teePubkey'],
  deps: Deps,
): Promise<{ readonly cookie: string; readonly claims: JWTPayload }> {
  const { evidence } = deps;
  const request = {
    version: KBS_VERSION,
    tee: cocoKind(evidence.tee),
    'extra-params': { 'supported-hash-algorithms': KBS_HASHES },
  };
  const asked = await call('POST', `${base}/auth`, kbsChallengeSchema, deps, { body: request });
  const cookie = sessionOf(asked.headers);
  const { nonce, 'extra-params': extraParams } = asked.value;
  const binding: KbsBinding = { nonce, teePubkey, hash: hashOf(extraParams) };
  let devices = '';
  let over = new Uint8Array();
  const collected = await evidence.collectOver({
    gpuNonce: await kbsDeviceNonce(binding),
    reportData: async (gpus) => {
      devices = cocoDevices(gpus);
      over = await kbsReportData(binding, devices);
      return over;
    },
  });
  const digestBytes = { sha256: 32, sha384: 48, sha512: 64 }[binding.hash];
  const body = {
    'runtime-data': { nonce, 'tee-pubkey': teePubkey },
    'tee-evidence': {
      primary_evidence: cocoEvidence(collected, over.subarray(0, digestBytes)).primary,
      additional_evidence: devices,
    },
  };
  const { token } = (await call('POST', `${base}/attest`, kbsTokenSchema, deps, { body, cookie })).value;
  return { cookie, claims: claimsOf(token) };
}

async function getResource(url: string, cookie: string, deps: Deps): Promise<KbsJwe> {
  return (await call('GET', url, kbsJweSchema, deps, { cookie })).value;
}

function hashOf(extraParams: unknown): KbsBinding['hash'] {
  try {
    return kbsHashOf(extraParams);
  } catch (cause) {
    throw new CfnError('CFN_BROKER_ANSWER', (cause as Error).message, { cause });
  }
}

/** The session that the broker set; a form of its own is passed back as it is, as long as it is one cookie's value. */
function sessionOf(headers: Headers): string {
  const [value] = headers
    .getSetCookie()
    .flatMap((cookie) => new RegExp(`^${KBS_COOKIE}=([!#-+\\--:<-[\\]-~]{1,256})(?:;|$)`).exec(cookie)?.[1] ?? []);
  if (value === undefined) throw new CfnError('CFN_BROKER_ANSWER', `the broker set no cookie ${KBS_COOKIE}`);
  return `${KBS_COOKIE}=${value}`;
}

/** Unverified: the broker's word to us, over its own TLS; nobody else is shown it. @throws {CfnError} `CFN_TOKEN_REFUSED` */
function claimsOf(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch (cause) {
    throw new CfnError('CFN_TOKEN_REFUSED', "the broker's token is no JWT", { cause });
  }
}

/**
 * How long the token lives, by its own times and by the clock here, whichever is shorter: so a clock set back stretches nothing.
 *
 * @throws {CfnError} `CFN_TOKEN_REFUSED`
 */
function termsOf(claims: JWTPayload, now: Date): { readonly leaseMs: number; readonly policy: string | undefined } {
  const { exp, iat } = claims;
  const life = exp === undefined ? KEY_LEASE_MS : (exp - (iat ?? exp)) * 1000;
  const left = exp === undefined ? KEY_LEASE_MS : exp * 1000 - now.getTime();
  const leaseMs = Math.floor(Math.min(KEY_LEASE_MS, left, iat === undefined ? left : life));
  if (!(leaseMs > 0)) throw new CfnError('CFN_TOKEN_REFUSED', "the broker's token has ended");
  return { leaseMs, policy: digestSchema.safeParse(claims['policy']).data };
}

/** @throws {BrokerRefused}, {CfnError} `CFN_KMS_UNREACHABLE`, `CFN_BROKER_ANSWER` */
async function call<T>(
  method: string,
  url: string,
  schema: z.ZodType<T>,
  deps: Deps,
  { body, cookie }: { readonly body?: object; readonly cookie?: string },
): Promise<{ readonly value: T; readonly headers: Headers }> {
  const headers = {
    ...(body !== undefined && { 'content-type': 'application/json' }),
    ...(cookie !== undefined && { cookie }),
  };
  const signal = AbortSignal.timeout(REPLY_MS_MAX);
  let response: Response;
  let bytes: Uint8Array;
  try {
    const init: RequestInit = { method, headers, signal, redirect: 'error' };
    response = await deps.fetch(url, body === undefined ? init : { ...init, body: JSON.stringify(body) });
    bytes = await readAnswer(response, REPLY_BYTES_MAX, tooLong);
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError('CFN_KMS_UNREACHABLE', `no answer from the broker at ${new URL(url).origin}`, { cause });
  }
  const value = tryJson(bytes);
  if (!response.ok) {
    const name = kbsErrorName(value) ?? 'an error of another kind';
    throw new BrokerRefused(kbsRecourse(response.status, value), `${response.status}, ${name.slice(0, 64)}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { value: parsed.data, headers: response.headers };
  throw new CfnError(
    'CFN_BROKER_ANSWER',
    `the broker's answer to ${method} ${new URL(url).pathname} is not of the protocol`,
  );
}

const tooLong = (bytesMax: number): CfnError =>
  new CfnError('CFN_BROKER_ANSWER', `the broker's answer is over ${bytesMax} bytes`);

function tryJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes)) as unknown;
  } catch {
    return undefined; // the caller refuses what is not there
  }
}
