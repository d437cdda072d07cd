import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Hono } from 'hono';
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from 'jose';
import { afterAll } from 'vitest';
import { openSimulatedPlatform, simulatedAttester, simulatedPolicy } from '../attestation/insecure/index.ts';
import { appraise, appraiseClient, policyDigest } from '../attestation/verifier/index.ts';
import * as proto from '../proto/index.ts';
import { createKms, type CallLog } from './app.ts';
import { openChallenges } from './challenges.ts';
import type { KmsDeps } from './deps.ts';
import { openLeaseFeed } from './lease-feed.ts';
import { openKeyring } from './open-keyring.ts';
import { openManifests } from './known-manifests.ts';
import { openSessions } from './kbs/sessions.ts';
import { openPolicies, parsePolicy } from './policies.ts';
import { openRates } from './rates.ts';
import { openRefusals } from './refusals.ts';
import { openFileRootKey } from './root-key-file.ts';
import { openSealingKey } from './sealing-key.ts';
import { tokenDigest } from './tokens.ts';

// A whole KMS in this process, with a clock that tests move, and workers on a simulated platform. For tests only.

export const digest = 'd'.repeat(64);
export const MODEL = 'acme/text-detector@1';
const ADMIN = 'A'.repeat(43);
const MRTD = new Uint8Array(48).fill(0x4d);

export interface Answer {
  readonly status: number;
  // Tests look into answers of many shapes; a missing member shows as undefined there.
  readonly body: Record<string, unknown> & { readonly code?: string };
}
export type Send = (method: string, path: string, body?: unknown, token?: string) => Promise<Answer>;

const platformFolder = mkdtempSync(join(tmpdir(), 'cfn-kms-platform-'));
afterAll(() => rmSync(platformFolder, { recursive: true }));
export const platform = await openSimulatedPlatform(platformFolder);
const policy = await simulatedPolicy(platform, { mrtd: MRTD });

/** @param path keyring file; the root key is the same for each call, so that a second KMS can open the first one's file */
export async function startKms(path = ':memory:', change: Partial<KmsDeps> = {}): Promise<TestKms> {
  const clock = { offsetMs: 0 };
  const now = (): Date => new Date(Date.now() + clock.offsetMs);
  const opened = await openKeyring(path, rootKey, {
    randomBytes,
    fetch,
    credential: () => undefined,
  });
  const store = change.store ?? opened.store;
  const deps: KmsDeps = {
    now,
    randomBytes,
    store,
    rootKey,
    sealingKey: change.store === undefined ? opened.sealingKey : await openSealingKey(store, rootKey, false),
    auditKey: opened.auditKey.publicKey,
    challenges: openChallenges({ now, randomBytes }),
    appraise,
    manifests: openManifests(),
    kbs: {
      sessions: openSessions({ now, randomBytes }),
      appraiseClient,
      endorse: () => Promise.resolve(proto.NO_ENDORSEMENTS),
    },
    policies: openPolicies(await parsePolicy(policy), store),
    rates: openRates(now, 100),
    refusals: openRefusals(store, now, 100),
    feed: openLeaseFeed(now),
    ...change,
  };
  store.watchEnds((lease) => deps.feed.tell(lease));
  const logs: CallLog[] = [];
  const app = createKms({ ...deps, adminTokenDigest: tokenDigest(ADMIN), log: (entry) => logs.push(entry) });
  return { app, deps, clock, logs, admin: ADMIN, policy, policyDigest: await policyDigest(policy), send: sender(app) };
}
export interface TestKms {
  readonly app: Hono;
  readonly deps: KmsDeps;
  /** Tests add to it to let time pass. */
  readonly clock: { offsetMs: number };
  readonly logs: CallLog[];
  readonly admin: string;
  /** The KMS's own. */
  readonly policy: typeof policy;
  readonly policyDigest: string;
  readonly send: Send;
}
export const rootKey = openFileRootKey(join(platformFolder, 'root.key'), { mayMake: true, randomBytes });

/** The audit log of an owner, or of the KMS itself; newest first. */
export async function auditOf(kms: TestKms, owner = 'acme'): Promise<readonly proto.AuditEntry[]> {
  return (await kms.deps.store.auditPage(owner, 0, 1000)).lines.map(({ entry }) => entry).toReversed();
}

const sender =
  (app: Hono): Send =>
  async (method, path, body, token) => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const response = await app.request(path, init);
    return { status: response.status, body: (await response.json()) as Answer['body'] };
  };

/** What tests need of a KMS, in this process or another. */
export interface ReachedKms extends Pick<TestKms, 'admin' | 'send'> {
  readonly deps: Pick<KmsDeps, 'now'> & { readonly sealingKey: Pick<KmsDeps['sealingKey'], 'publicKey'> };
}

/** An owner with one model in the KMS; nothing granted yet. */
export async function addOwner(
  kms: ReachedKms,
  owner = 'acme',
  model = MODEL,
): Promise<{ token: string; dataKey: Uint8Array }> {
  const token = String((await kms.send('POST', '/v1/owners', { name: owner }, kms.admin)).body['token']);
  const dataKey = randomBytes(32);
  const sealedKey = await proto.sealTo(kms.deps.sealingKey.publicKey, dataKey, proto.dataKeyInfo(digest, model));
  const stored = await kms.send('PUT', `/v1/models/${digest}`, { model, sealedKey }, token);
  if (stored.status !== 201) throw new Error(`model was not stored: ${String(stored.body.code)}`);
  return { token, dataKey };
}

export const grantOf = (kms: Pick<ReachedKms, 'deps'>, change: Partial<proto.Grant> = {}): proto.Grant => ({
  tenant: 'tenant',
  function: 'ocr',
  leaseMs: 60_000,
  until: new Date(kms.deps.now().getTime() + 3_600_000).toISOString(),
  ...change,
});

export interface Author {
  readonly privateKey: CryptoKey;
  readonly publicJwk: JWK;
}
export async function newAuthor(): Promise<Author> {
  const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  return { privateKey, publicJwk: await exportJWK(publicKey) };
}

/** A function, signed by a fresh author unless one is given. */
export async function signFunction(
  change: Partial<proto.FunctionManifest> = {},
  author?: Author,
): Promise<proto.SignedManifest> {
  const { privateKey, publicJwk } = author ?? (await newAuthor());
  const manifest: proto.FunctionManifest = {
    format: 'cfn/function/v1',
    tenant: 'tenant',
    name: 'ocr',
    compatibilityDate: '2026-11-01',
    code: { digest: 'c'.repeat(64), bytes: 10 },
    models: [{ binding: 'DETECT', model: MODEL, digest }],
    vars: {},
    limits: proto.DEFAULT_LIMITS,
    egress: { allow: [] },
    caller: { plaintext: false, logs: 'none' },
    ...change,
  };
  return proto.signManifest(manifest, privateKey, publicJwk);
}

export interface TestWorker {
  readonly id: string;
  readonly wrappingKey: string;
  readonly receiptKey: CryptoKey;
  collect(nonce: Uint8Array): Promise<proto.Evidence>;
  open(sealed: proto.Sealed, challenge: string): Promise<Uint8Array>;
  sayDropped(lease: string, change?: { worker?: string; key?: CryptoKey; typ?: string }): Promise<string>;
}

/** A worker with keys of its own. @param mrtd what its image measures to, when not what the policy expects */
export async function startWorker(
  kms: Pick<ReachedKms, 'deps'>,
  mrtd: Uint8Array = MRTD,
  on = platform,
): Promise<TestWorker> {
  const receipt = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  const wrapping = await proto.generateSealingKeyPair();
  const workerKeys = proto.encodeWorkerKeys({
    format: 'cfn/worker-keys/v1',
    tls: { spki: randomBytes(32).toString('hex') },
    ohttp: { config: 'AAAA' },
    receipt: { publicKey: (await exportJWK(receipt.publicKey)).x ?? '' },
    notAfter: new Date(kms.deps.now().getTime() + 7_200_000).toISOString(),
  });
  const id = await proto.workerId(workerKeys);
  const attester = simulatedAttester(on, { mrtd });
  return {
    id,
    wrappingKey: wrapping.publicKey,
    receiptKey: receipt.privateKey,
    collect: (nonce) => attester.collect(nonce, workerKeys),
    open: (sealed, challenge) => proto.openSealed(wrapping.privateKey, sealed, proto.wrappedKeyInfo(digest, challenge)),
    sayDropped: (lease, change = {}) =>
      new SignJWT({ lease, worker: change.worker ?? id, reason: 'stopped' })
        .setProtectedHeader({ alg: 'EdDSA', typ: change.typ ?? 'cfn-key-dropped+jwt' })
        .setIssuedAt(kms.deps.now())
        .sign(change.key ?? receipt.privateKey),
  };
}

/** Another simulated platform, whose root the policy does not name. */
export async function strangePlatform(): Promise<typeof platform> {
  return openSimulatedPlatform(mkdtempSync(join(platformFolder, 'strange-')));
}

/** A well-formed release request of this worker for this function, with a fresh challenge. */
export async function releaseRequest(
  kms: Pick<ReachedKms, 'send'>,
  worker: TestWorker,
  use: proto.SignedManifest,
  renew?: string,
): Promise<proto.ReleaseRequest> {
  const challenge = String((await kms.send('POST', '/v1/challenge')).body['challenge']);
  const { wrappingKey } = worker;
  const evidence = await worker.collect(await proto.kmsNonce(challenge, wrappingKey, digest, use.jws));
  return {
    challenge,
    model: digest,
    functionManifest: use.jws,
    wrappingKey,
    evidence,
    ...(renew !== undefined && { renew }),
  };
}
