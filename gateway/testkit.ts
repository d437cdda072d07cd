import { randomBytes, webcrypto } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  openSimulatedPlatform,
  simulatedAttester,
  simulatedPolicy,
  type SimulatedPlatform,
} from '../attestation/insecure/index.ts';
import type { AppraisalPolicy } from '../attestation/verifier/index.ts';
import {
  sha256Hex,
  signManifest,
  toBase64url,
  utf8,
  type FunctionManifest,
  type ModelPackage,
  type SignedManifest,
} from '../proto/index.ts';
import { startGateway, type GatewayOptions, type RunningGateway } from './service.ts';
import { throwawayWorker, type ThrowawayOptions, type ThrowawayWorker } from './worker.testkit.ts';

export const MRTD = new Uint8Array(48).fill(1);

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'cfn-gateway-'));

export interface House {
  readonly platform: SimulatedPlatform;
  readonly policy: AppraisalPolicy;
  readonly stateFolder: string;
  readonly gateway: RunningGateway;
  readonly operator: string;
  /** Lines of the gateway's log, as JSON. */
  readonly logs: string[];
  /** A request to the gateway; JSON bodies are encoded. */
  call(method: string, path: string, options?: CallOptions): Promise<Response>;
  tenant(name: string): Promise<string>;
  deploy(token: string, signed: SignedManifest, bundle?: Uint8Array): Promise<Response>;
  /** Stores a version that gets no requests. */
  upload(token: string, signed: SignedManifest, bundle?: Uint8Array): Promise<Response>;
  worker(options?: Partial<ThrowawayOptions>): Promise<ThrowawayWorker>;
}

export interface CallOptions {
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** A gateway on free ports with fresh state, and what tests do with one. */
export async function openHouse(change: Partial<GatewayOptions> = {}): Promise<House> {
  const platform = await openSimulatedPlatform(temporaryFolder());
  const policy = await simulatedPolicy(platform, { mrtd: MRTD });
  const stateFolder = change.stateFolder ?? temporaryFolder();
  const logs: string[] = [];
  const gateway = await startGateway({
    stateFolder,
    listen: '127.0.0.1:0',
    admin: '127.0.0.1:0',
    policy,
    workers: [],
    admit: 'all',
    leaseMs: 60_000,
    now: () => new Date(),
    monotonicMs: () => performance.now(),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    log: (event, fields) => logs.push(JSON.stringify({ event, ...fields })),
    ...change,
  });
  const operator = readFileSync(join(stateFolder, 'operator.token'), 'utf8');

  const house: House = {
    platform,
    policy,
    stateFolder,
    gateway,
    operator,
    logs,
    async call(method, path, { token, body, headers = {} } = {}) {
      const raw = body instanceof Uint8Array || typeof body === 'string' || body === undefined;
      return fetch(gateway.url + path, {
        method,
        headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
        ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
      });
    },
    async tenant(name) {
      await house.call('POST', '/v1/tenants', { token: operator, body: { name } });
      const reply = await house.call('POST', '/v1/tokens', {
        token: operator,
        body: { tenant: name, role: 'tenant', ttlSeconds: 600 },
      });
      return ((await reply.json()) as { token: string }).token;
    },
    deploy: (token, { manifest, jws }, bundle = BUNDLE) =>
      house.call('POST', `/v1/functions/${manifest.tenant}/${manifest.name}/versions`, {
        token,
        body: { manifest: jws, bundle: toBase64url(bundle) },
      }),
    upload: (token, { manifest, jws }, bundle = BUNDLE) =>
      house.call('POST', `/v1/functions/${manifest.tenant}/${manifest.name}/versions`, {
        token,
        body: { manifest: jws, bundle: toBase64url(bundle), deploy: false },
      }),
    worker: (options = {}) =>
      throwawayWorker({
        attester: simulatedAttester(platform, { mrtd: MRTD }),
        gatewayCertificatePem: readFileSync(join(stateFolder, 'client.crt'), 'utf8'),
        run: ({ body }) => ({ status: 200, body: [body] }),
        ...options,
      }),
  };
  return house;
}

export const BUNDLE = utf8('export default { fetch: () => new Response() };');

export async function signedFunction(change: Partial<FunctionManifest> = {}): Promise<SignedManifest> {
  const keys = (await webcrypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const manifest: FunctionManifest = {
    format: 'cfn/function/v1',
    tenant: 'acme',
    name: 'echo',
    compatibilityDate: '2026-11-01',
    code: { digest: await sha256Hex(BUNDLE), bytes: BUNDLE.length },
    models: [],
    vars: {},
    limits: { cpuMs: 1000, wallMs: 5000, memoryMb: 64 },
    egress: { allow: [] },
    caller: { plaintext: true, logs: 'none' },
    ...change,
  };
  return signManifest(
    manifest,
    keys.privateKey as CryptoKey,
    await crypto.subtle.exportKey('jwk', keys.publicKey as CryptoKey),
  );
}

export async function modelManifest(model: string, ciphertext: Uint8Array): Promise<Uint8Array> {
  const manifest: ModelPackage = {
    format: 'cfn/model/v1',
    model,
    files: [
      {
        path: 'model.onnx',
        bytes: 3,
        plaintextDigest: '0'.repeat(64),
        ciphertextDigest: await sha256Hex(ciphertext),
        segmentBytes: 1024 * 1024,
        noncePrefix: '0'.repeat(14),
      },
    ],
    kms: { url: 'http://127.0.0.1:1', publicKey: 'A'.repeat(43) },
  };
  return utf8(JSON.stringify(manifest));
}

/** The code of a problem answer. */
export async function codeOf(response: Response): Promise<string> {
  return `${response.status} ${((await response.json()) as { code: string }).code}`;
}
