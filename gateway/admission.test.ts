import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, generateKeyPair } from 'jose';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  openSimulatedPlatform,
  simulatedAttester,
  simulatedPolicy,
  type SimulatedPlatform,
} from '../attestation/insecure/index.ts';
import { openResultSigner, type AppraisalPolicy, type ResultSigner } from '../attestation/verifier/index.ts';
import { CfnError, fromBase64url, toBase64url, type ErrorCode, type Evidence } from '../proto/index.ts';
import { admission, type Admission } from './admission.ts';
import { makeClientCertificate, type ClientCertificate } from './client-certificate.ts';
import { ADMISSION_BACKOFF_MS } from './limits.ts';
import { memoryRegistry, type Registry } from './registry.ts';
import { workerConnector, type Connect } from './worker-connection.ts';
import { throwawayWorker, type ThrowawayOptions, type ThrowawayWorker } from './worker.testkit.ts';

const mrtd = new Uint8Array(48).fill(1);
const now = (): Date => new Date();
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
const folder = (): string => mkdtempSync(join(tmpdir(), 'cfn-admission-'));

let platform: SimulatedPlatform;
let policy: AppraisalPolicy;
let own: ClientCertificate;
let resultSigner: ResultSigner;
beforeAll(async () => {
  platform = await openSimulatedPlatform(folder());
  policy = await simulatedPolicy(platform, { mrtd });
  const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  resultSigner = await openResultSigner(await exportJWK(privateKey));
  own = await makeClientCertificate(now(), random(8));
});

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanup.splice(0).toReversed()) await step();
});

type Tamper = NonNullable<ThrowawayOptions['tamper']>;

interface Gate {
  readonly registry: Registry;
  readonly admitting: Admission;
  readonly evidence: Map<string, string>;
  readonly outcomes: string[];
}

function gate(
  options: {
    leaseMs?: number;
    certificate?: ClientCertificate;
    now?: () => Date;
    connect?: Connect;
    isFull?: () => boolean;
  } = {},
): Gate {
  const registry = memoryRegistry(() => performance.now());
  const evidence = new Map<string, string>();
  const outcomes: string[] = [];
  const admitting = admission({
    connect: options.connect ?? workerConnector(options.certificate ?? own, now),
    policy,
    resultSigner,
    registry,
    store: {
      addEvidence: async (digest, json) => {
        if (options.isFull?.() === true) throw new CfnError('CFN_STORE_FAILED', 'the disk is full');
        evidence.set(digest, json);
      },
    },
    feeds: { follow: () => undefined, leave: () => undefined },
    leaseMs: options.leaseMs ?? 60_000,
    now: options.now ?? now,
    monotonicMs: () => performance.now(),
    randomBytes: random,
    log: () => {},
    onOutcome: (outcome) => outcomes.push(outcome),
  });
  cleanup.push(() => admitting.stop());
  return { registry, admitting, evidence, outcomes };
}

async function worker(options: Partial<ThrowawayOptions> = {}): Promise<ThrowawayWorker> {
  const made = await throwawayWorker({
    attester: simulatedAttester(platform, { mrtd }),
    gatewayCertificatePem: own.certificatePem,
    run: () => ({ status: 200, body: [] }),
    ...options,
  });
  cleanup.push(() => made.kill());
  return made;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 25));
  expect(condition()).toBe(true);
}

test('admits a worker that the policy accepts, under a lease, and keeps its evidence', async () => {
  const { registry, admitting, evidence } = gate();
  const { address, workerId } = await worker();
  const admitted = await admitting.admit(address);
  expect(admitted).toMatchObject({ workerId, tee: 'simulated', simulated: true, address });
  expect(registry.get(workerId)).toBe(admitted);
  expect(JSON.parse(evidence.get(admitted.evidenceDigest) ?? '')).toEqual(admitted.evidence);
  expect(admitted.leaseEndsAt.getTime() - admitted.admittedAt.getTime()).toBe(60_000);
});

describe('INV-01 refuses, and routes nothing to,', () => {
  const flipped = (text: string, at: number): string => {
    const bytes = fromBase64url(text);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    return toBase64url(bytes);
  };
  const cases: [string, ErrorCode, () => Partial<ThrowawayOptions> | Promise<Partial<ThrowawayOptions>>][] = [
    ['evidence for another nonce', 'CFN_NONCE_MISMATCH', () => ({ tamper: replaying() })],
    ['evidence whose nonce was exchanged', 'CFN_REPORT_DATA_MISMATCH', () => ({ tamper: relabelling() })],
    [
      'an altered quote',
      'CFN_QUOTE_SIGNATURE',
      () => ({ tamper: (it) => ({ ...it, quote: flipped(it.quote, 48 + 200) }) }),
    ],
    ['other worker keys', 'CFN_REPORT_DATA_MISMATCH', () => ({ tamper: withOtherReceiptKey })],
    [
      'another measurement',
      'CFN_MEASUREMENT_UNKNOWN',
      () => ({ attester: simulatedAttester(platform, { mrtd: new Uint8Array(48) }) }),
    ],
    ['a debug guest', 'CFN_DEBUG_ENABLED', () => ({ attester: simulatedAttester(platform, { mrtd, debug: true }) })],
    [
      'another root',
      'CFN_CHAIN_UNTRUSTED',
      async () => ({ attester: simulatedAttester(await openSimulatedPlatform(folder()), { mrtd }) }),
    ],
    ['a channel with another key than the evidence binds', 'CFN_CHANNEL_MISMATCH', () => ({ foreignTlsKey: true })],
    ['evidence of another kind', 'CFN_TEE_REFUSED', () => ({ tamper: (it) => ({ ...it, tee: 'tdx' as const }) })],
    ['what is no evidence', 'CFN_EVIDENCE_MALFORMED', () => ({ tamper: () => ({}) as Evidence })],
  ];
  test.each(cases)('%s: %s', async (_, code, options) => {
    const { registry, admitting, outcomes } = gate();
    const { address } = await worker(await options());
    await expect(admitting.admit(address)).rejects.toMatchObject({ code });
    expect(registry.live()).toEqual([]);
    expect(outcomes).toEqual([code]);
  });

  /** Gives evidence of another challenge, genuine in itself. */
  function replaying(): Tamper {
    return (it) => simulatedAttester(platform, { mrtd }).collect(random(32), fromBase64url(it.workerKeys));
  }
  /** Old evidence with the new nonce written on it. */
  function relabelling(): Tamper {
    return async (it) => {
      const old = await simulatedAttester(platform, { mrtd }).collect(random(32), fromBase64url(it.workerKeys));
      return { ...old, nonce: it.nonce };
    };
  }
  function withOtherReceiptKey(it: Evidence): Evidence {
    const keys = JSON.parse(Buffer.from(it.workerKeys, 'base64url').toString()) as { receipt: { publicKey: string } };
    keys.receipt.publicKey = toBase64url(new Uint8Array(32).fill(9));
    return { ...it, workerKeys: Buffer.from(JSON.stringify(keys)).toString('base64url') };
  }
});

test('refuses a worker that answers under another certificate than the gateway’s, or not at all', async () => {
  const { admitting } = gate({ certificate: await makeClientCertificate(now(), random(8)) });
  const { address } = await worker();
  await expect(admitting.admit(address)).rejects.toMatchObject({
    code: expect.stringMatching(/WORKER_(LOST|UNAVAILABLE)/),
  });
  await expect(admitting.admit('127.0.0.1:1')).rejects.toMatchObject({ code: 'CFN_WORKER_UNAVAILABLE' });
});

test('INV-01 a worker that turns bad is out at the next challenge, and back when it is good again', async () => {
  let bad = false;
  // Challenged every second; the lease is long enough for a busy machine.
  const { registry, admitting, outcomes } = gate({ leaseMs: 2_000 });
  const { address, workerId } = await worker({
    tamper: (it) => (bad ? { ...it, nonce: toBase64url(new Uint8Array(32)) } : it),
  });
  const first = await admitting.admit(address);
  await until(() => outcomes.length >= 2);
  const renewed = registry.get(workerId);
  expect(renewed?.leaseEndsAt.getTime()).toBeGreaterThan(first.leaseEndsAt.getTime());
  bad = true;
  await until(() => outcomes.includes('CFN_NONCE_MISMATCH'));
  expect(registry.get(workerId)).toBeUndefined(); // at once, not at the end of the lease
  expect(admitting.connection(workerId)).toBeUndefined();
  bad = false;
  await until(() => registry.get(workerId) !== undefined);
});

test('a wall clock that is set ends no lease, and keeps no silent worker', async () => {
  let setMs = 0;
  let silent = false;
  const clock = (): Date => new Date(Date.now() + setMs);
  const { registry, admitting, outcomes } = gate({ leaseMs: 1_000, now: clock });
  const { address, workerId } = await worker({
    tamper: (it) => (silent ? new Promise<never>(() => undefined) : it),
  });
  await admitting.admit(address);
  setMs = 10 * 60_000; // policy and keys hold for longer
  expect(registry.get(workerId)).toBeDefined();
  expect(registry.live()).toHaveLength(1);
  await until(() => outcomes.length >= 2); // and so is the next one given
  expect(outcomes).toEqual(['ok', 'ok']);
  silent = true;
  setMs = 0;
  await until(() => registry.get(workerId) === undefined);
});

test('a killed worker leaves at the latest with its lease; a new one at the address is admitted by itself', async () => {
  const { registry, admitting } = gate({ leaseMs: 300 });
  const first = await worker();
  admitting.keep(first.address);
  await until(() => registry.live().length === 1);
  first.kill();
  await until(() => registry.live().length === 0);
  const second = await worker({ listen: first.address });
  await until(() => registry.get(second.workerId) !== undefined);
  expect(registry.get(first.workerId)).toBeUndefined();
});

test('a suspected worker is challenged at once', async () => {
  const { registry, admitting, outcomes } = gate();
  const running = await worker();
  const { address, workerId } = running;
  await admitting.admit(address);
  admitting.suspect(workerId);
  await until(() => outcomes.length === 2);
  expect(registry.get(workerId)).toBeDefined();
  running.kill();
  admitting.suspect(workerId);
  await until(() => registry.get(workerId) === undefined);
});

test('one who cuts each session right after it was admitted does not keep the gateway busy', async () => {
  const connect: Connect = async (address) => {
    const connection = await workerConnector(own, now)(address);
    const evidence: typeof connection.evidence = async (...asked) => {
      const challenged = await connection.evidence(...asked);
      setTimeout(() => connection.close(), 20);
      return challenged;
    };
    return { ...connection, evidence };
  };
  const { admitting, outcomes } = gate({ connect });
  const { address } = await worker();
  const startMs = performance.now();
  admitting.keep(address);
  await until(() => outcomes.length >= 8);
  const challenges = (performance.now() - startMs) / ADMISSION_BACKOFF_MS.first;
  expect(outcomes.length).toBeLessThanOrEqual(challenges + 2);
  expect(outcomes).toContain('ok');
});

test('a worker under two names of its address is forgotten under both; one that is away, by its address', async () => {
  const { registry, admitting, outcomes } = gate({ leaseMs: 600 });
  const { address, workerId } = await worker();
  const alias = address.replace('127.0.0.1', 'localhost');
  await admitting.admit(address);
  await admitting.admit(alias);
  expect(admitting.forget(workerId)).toEqual([address, alias]);
  expect(admitting.forget(workerId)).toEqual([]);
  admitting.keep('127.0.0.1:1');
  await until(() => outcomes.includes('CFN_WORKER_UNAVAILABLE'));
  expect(admitting.forget('127.0.0.1:1')).toEqual(['127.0.0.1:1']);
  const seen = outcomes.length;
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect([registry.live(), outcomes.length]).toEqual([[], seen]);
});

test('a store that fails ends no lease before its time, nor the calls under way, and lengthens none', async () => {
  let full = false;
  const { registry, admitting, outcomes } = gate({ leaseMs: 1_000, isFull: () => full });
  const { address, workerId } = await worker();
  await admitting.admit(address);
  const connection = admitting.connection(workerId);
  full = true;
  admitting.suspect(workerId);
  await until(() => outcomes.includes('CFN_STORE_FAILED'));
  expect(admitting.connection(workerId)).toBe(connection);
  await until(() => registry.get(workerId) === undefined);
  full = false;
  await until(() => registry.get(workerId) !== undefined);
});

test('a forgotten worker is not admitted again', async () => {
  const { registry, admitting, outcomes } = gate({ leaseMs: 100 });
  const { address, workerId } = await worker();
  await admitting.admit(address);
  expect(admitting.forget(workerId)).toEqual([address]);
  const seen = outcomes.length;
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(registry.live()).toEqual([]);
  expect(outcomes.length).toBe(seen);
});
