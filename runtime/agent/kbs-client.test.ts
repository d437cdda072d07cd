import { SignJWT } from 'jose';
import { beforeEach, describe, expect, test } from 'vitest';
import { simulatedAttester } from '../../attestation/insecure/index.ts';
import { addResource } from '../../kms/kbs/client.testkit.ts';
import { platform, startKms, type TestKms } from '../../kms/test-kms.ts';
import {
  canonicalJson,
  decryptResource,
  generateTeeKeyPair,
  KBS_ERRORS,
  kbsAttestationSchema,
  kbsReportData,
  kbsRequestSchema,
  KEY_LEASE_MS,
  type KbsJwe,
  type TeeKeyPair,
} from '../../proto/index.ts';
import { evidenceSource } from './evidence-source.ts';
import { byService, kbsClient } from './kbs-client.ts';
import type { KeyClient } from './key-client.ts';

const BROKER = { url: 'kbs+https://broker.example/acme/key/detector' };
const MRTD = new Uint8Array(48).fill(0x4d);

/** What the broker says instead, by the last part of the path; once for each entry. */
type Instead = Record<'auth' | 'attest' | 'detector', (() => Response | Promise<Response>)[]>;

let kms: TestKms;
let keys: TeeKeyPair;
let content: Uint8Array;
let calls: { readonly step: string; readonly body: unknown; readonly headers: Headers }[];
let instead: Instead;
let now: Date;
let client: ReturnType<typeof kbsClient>;
let clockMs: number;

/** Our KMS is the broker; each of its answers can be replaced. */
const broker: typeof fetch = async (input, init) => {
  const url = new URL(input instanceof Request ? input.url : input);
  expect(url.origin).toBe('https://broker.example');
  expect(init?.redirect).toBe('error');
  const step = url.pathname.split('/').at(-1) ?? '';
  calls.push({
    step,
    body: init?.body === undefined ? undefined : await new Response(init.body).json(),
    headers: new Headers(init?.headers),
  });
  const other = instead[step as keyof Instead].shift();
  return other === undefined ? kms.app.request(url.pathname, init) : other();
};

beforeEach(async () => {
  kms = await startKms();
  keys = await generateTeeKeyPair();
  ({ content } = await addResource(kms));
  calls = [];
  instead = { auth: [], attest: [], detector: [] };
  now = new Date();
  const evidence = evidenceSource(simulatedAttester(platform, { mrtd: MRTD }), new Uint8Array());
  clockMs = 5_000;
  client = kbsClient({ fetch: broker, evidence, now: () => now, leaseClockMs: () => clockMs });
});

const leaseMsOf = ({ endsAt }: { readonly endsAt: number }): number => endsAt - clockMs;
const release = (renew?: string) =>
  client.release(BROKER, {
    model: 'd'.repeat(64),
    functionManifest: '',
    wrappingKey: canonicalJson(keys.publicKey),
    ...(renew !== undefined && { renew: { lease: renew, used: 0 } }),
  });
const steps = (): string => calls.map(({ step }) => step).join(' ');
const refusal =
  (name: string, status = 401) =>
  () =>
    Response.json({ type: `${KBS_ERRORS}${name}`, detail: 'no' }, { status });
const token = (claims: { iat?: number; exp?: number }) => async (): Promise<Response> => {
  const jwt = new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' });
  return Response.json({ token: await jwt.sign(new Uint8Array(32)) });
};
const seconds = (at: Date): number => Math.floor(at.getTime() / 1000);

describe('INV-29 a data key comes from a broker encrypted to the engine, for no longer than its token', () => {
  test('request, challenge, attestation, resource', async () => {
    const released = await release();
    expect(steps()).toBe('auth attest detector');
    expect(released).toMatchObject({ policy: kms.policyDigest, challenge: '' });
    expect(leaseMsOf(released)).toBeGreaterThan(290_000);
    expect(leaseMsOf(released)).toBeLessThanOrEqual(300_000);
    expect(Buffer.from(await decryptResource(released.wrappedKey as KbsJwe, keys))).toEqual(Buffer.from(content));
    const left = leaseMsOf(released);
    clockMs += 1000;
    expect(await client.leaseRemainingMs(BROKER, released.lease)).toBe(left - 1000);
    await client.reportDropped(BROKER, released.lease, 'statement');
    expect(await client.leaseRemainingMs(BROKER, released.lease)).toBeLessThan(0);
    expect(steps()).toBe('auth attest detector'); // nobody was asked or told
  });

  test('what goes over the wire is of the protocol, and Trustee reads it as unsigned sample evidence', async () => {
    await release();
    const [auth, attest, resource] = calls;
    const request = kbsRequestSchema.strict().parse(auth?.body);
    expect(request).toMatchObject({ version: '0.4.0', tee: 'sample' });
    const sent = kbsAttestationSchema.strict().parse(attest?.body);
    const { nonce, 'tee-pubkey': teePubkey } = sent['runtime-data'];
    expect(teePubkey).toEqual(keys.publicKey);
    const { primary_evidence: primary, additional_evidence: additional } = sent['tee-evidence'];
    const over = await kbsReportData({ nonce, teePubkey, hash: 'sha384' }, additional);
    expect(primary).toMatchObject({ svn: '1', report_data: Buffer.from(over.subarray(0, 48)).toString('base64') });
    expect(Object.keys(JSON.parse(additional) as object)).toEqual(['nvidia']);
    for (const call of [attest, resource]) expect(call?.headers.get('cookie')).toMatch(/^kbs-session-id=[0-9a-f]{32}$/);
  });

  test('a renewal is all of it again, with another nonce', async () => {
    const { lease } = await release();
    const renewed = await release(lease);
    expect(steps()).toBe('auth attest detector auth attest detector');
    const nonces = calls.flatMap(({ step, body }) =>
      step === 'attest' ? [kbsAttestationSchema.parse(body)['runtime-data'].nonce] : [],
    );
    expect(new Set(nonces).size).toBe(2);
    expect(renewed.lease).toBe(lease);
  });

  test.each([
    ['as long as the token lives', { iat: 0, exp: 60 }, 0, 60_000],
    ['ten minutes at most', { iat: 0, exp: 86_400 }, 0, KEY_LEASE_MS],
    ['ten minutes where it has no end', {}, 0, KEY_LEASE_MS],
    ['no longer with the clock set back', { iat: 0, exp: 60 }, -3600, 60_000],
    ['shorter with a clock that is ahead', { iat: 0, exp: 60 }, 20, 40_000],
    ['what is left where it does not say when it was made', { exp: 60 }, 30, 30_000],
  ])('a lease is %s', async (_, { iat, exp }: { iat?: number; exp?: number }, clockSeconds, leaseMs) => {
    const at = seconds(now);
    instead.attest.push(
      token({ ...(iat !== undefined && { iat: at + iat }), ...(exp !== undefined && { exp: at + exp }) }),
    );
    instead.detector.push(() => Response.json(calls.length === 0 ? {} : jwe));
    const jwe = { protected: 'AA', encrypted_key: 'AA', iv: 'A'.repeat(16), ciphertext: 'AA', tag: 'A'.repeat(22) };
    now = new Date((at + clockSeconds) * 1000);
    expect(leaseMsOf(await release())).toBe(leaseMs);
  });

  test.each([
    ['that has ended', { iat: -120, exp: -60 }],
    ['that ends when it begins', { iat: 60, exp: 60 }],
  ])('a token %s gives no lease', async (_, { iat, exp }) => {
    instead.attest.push(token({ iat: seconds(now) + iat, exp: seconds(now) + exp }));
    instead.detector.push(() =>
      Response.json({
        protected: 'AA',
        encrypted_key: 'AA',
        iv: 'A'.repeat(16),
        ciphertext: 'AA',
        tag: 'A'.repeat(22),
      }),
    );
    await expect(release()).rejects.toMatchObject({ code: 'CFN_TOKEN_REFUSED' });
  });
});

describe('errors are told apart', () => {
  test('attest again: once, and then it is a refusal', async () => {
    instead.attest.push(refusal('AttestationError'));
    instead.detector.push();
    await release();
    expect(steps()).toBe('auth attest auth attest detector');
    calls = [];
    instead.detector.push(refusal('TokenVerifierError'));
    await release();
    expect(steps()).toBe('auth attest detector auth attest detector');
    calls = [];
    instead.detector.push(refusal('TokenNotFound'), refusal('TokenNotFound'));
    await expect(release()).rejects.toMatchObject({ code: 'CFN_BROKER_DENIED', fault: 'trust' });
    expect(steps()).toBe('auth attest detector auth attest detector');
  });

  test.each([
    ['PolicyDeny', 401],
    ['PluginNotFound', 404],
    ['Unheard', 401],
    ['Unheard', 403],
  ])('denied: %s with %d stops at once', async (name, status) => {
    instead.detector.push(refusal(name, status));
    await expect(release()).rejects.toMatchObject({ code: 'CFN_BROKER_DENIED', fault: 'trust' });
    expect(steps()).toBe('auth attest detector');
  });

  test.each([
    ['an error of the broker itself', refusal('PluginInternalError')],
    ['a gateway in between', () => new Response('<html>', { status: 502 })],
    ['nobody there', () => Promise.reject(new TypeError('fetch failed'))],
  ])('later: %s', async (_, answer) => {
    for (const step of ['auth', 'attest', 'detector'] as const) {
      instead[step].push(answer);
      await expect(release()).rejects.toMatchObject({ code: 'CFN_KMS_UNREACHABLE', fault: 'system' });
    }
  });

  const cookie = { headers: { 'set-cookie': 'kbs-session-id=0123' } };
  test.each<[string, keyof Instead, () => Response]>([
    ['no cookie', 'auth', () => Response.json({ nonce: 'A'.repeat(44) })],
    [
      'a cookie of another name',
      'auth',
      () => Response.json({ nonce: 'A'.repeat(44) }, { headers: { 'set-cookie': 'x=1' } }),
    ],
    ['no nonce', 'auth', () => Response.json({}, cookie)],
    ['a nonce too short to be one', 'auth', () => Response.json({ nonce: 'AAAA' }, cookie)],
    [
      'a hash that we do not have',
      'auth',
      () => Response.json({ nonce: 'A'.repeat(44), 'extra-params': { 'selected-hash-algorithm': 'sm3' } }, cookie),
    ],
    ['no token', 'attest', () => Response.json({})],
    ['no JSON', 'detector', () => new Response('key')],
    ['a resource in the clear', 'detector', () => Response.json({ key: 'AA' })],
    [
      'a JWE with a part missing',
      'detector',
      () => Response.json({ protected: 'AA', iv: 'A'.repeat(16), ciphertext: 'AA', tag: 'A'.repeat(22) }),
    ],
    [
      'a JWE with an aad of its own',
      'detector',
      () =>
        Response.json({
          protected: 'AA',
          encrypted_key: 'AA',
          iv: 'A'.repeat(16),
          ciphertext: 'AA',
          tag: 'A'.repeat(22),
          aad: 'AA',
        }),
    ],
    ['more than is taken', 'detector', () => new Response('x'.repeat(2 * 1024 * 1024 + 1))],
  ])('an answer that is not of the protocol: %s', async (_, step, answer) => {
    instead[step].push(answer);
    await expect(release()).rejects.toMatchObject({ code: 'CFN_BROKER_ANSWER', fault: 'trust' });
  });

  test('a token that is none', async () => {
    instead.attest.push(() => Response.json({ token: 'x' }));
    await expect(release()).rejects.toMatchObject({ code: 'CFN_TOKEN_REFUSED' });
  });
});

test('which client is asked follows from the URL', async () => {
  const named = (name: string): KeyClient => ({
    release: () => Promise.reject(new Error(name)),
    leaseRemainingMs: () => Promise.reject(new Error(name)),
    leaseEvents: () => {
      throw new Error(name);
    },
    stateDropped: () => Promise.resolve(name),
    reportDropped: () => Promise.reject(new Error(name)),
  });
  const both = byService(named('kms'), named('broker'));
  await expect(both.leaseRemainingMs({ url: 'https://kms.example', publicKey: 'k' }, 'l')).rejects.toThrow('kms');
  await expect(both.leaseRemainingMs(BROKER, 'l')).rejects.toThrow('broker');
  await expect(both.reportDropped(BROKER, 'l', 's')).rejects.toThrow('broker');
  expect(() => both.leaseEvents(BROKER, AbortSignal.abort())).toThrow('broker');
  expect(await both.stateDropped('l', 'r', 0)).toBe('kms');
});

test('nothing is heard of a broker but that it was listened to', async () => {
  const ended = new AbortController();
  const events = client.leaseEvents(BROKER, ended.signal);
  expect(await events.next()).toEqual({ done: false, value: { n: 0 } });
  const next = events.next();
  ended.abort();
  expect(await next).toMatchObject({ done: true });
});
