import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import { httpBlobStore, sealModel } from '../artifacts/index.ts';
import { parseWorkerPolicy, type AppraisalPolicy } from '../attestation/verifier/index.ts';
import { startLocal, type LocalOptions, type LocalSystem } from '../deploy/index.ts';
import {
  dataKeyInfo,
  sealTo,
  sha256Hex,
  signManifest,
  toBase64url,
  utf8,
  type FunctionManifest,
  type Grant,
} from '../proto/index.ts';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const VAD_MODEL = join(root, 'node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx');

/** A whole system of real processes for a test file, and what its tests do with it. */
export interface TestSystem {
  readonly local: LocalSystem;
  readonly policy: AppraisalPolicy;
  readonly stateDir: string;
  readonly logs: string[];
  /** Signs and deploys a module given as source; answers its version. */
  deploy(name: string, source: string, change?: Partial<FunctionManifest>): Promise<string>;
  /** Who signs what is deployed. */
  readonly author: { readonly key: CryptoKey; readonly thumbprint: string };
  /** Pushes a model encrypted, its key to a KMS of the owner's choice; answers its digest. */
  push(model: string, file: string, at?: OwnerAtKms): Promise<string>;
  grant(digest: string, fn: string, leaseMs?: number, change?: Partial<Grant>, at?: OwnerAtKms): Promise<void>;
  kms(method: string, path: string, body?: unknown): Promise<Response>;
  control(method: string, path: string, body?: unknown, token?: string): Promise<Response>;
  /** Open mode. */
  call(name: string, init?: RequestInit): Promise<Response>;
  stop(): Promise<void>;
}

/** An owner's token at a KMS. `named`: what the model's manifest is to say, where that is something else. */
export interface OwnerAtKms {
  readonly url: string;
  readonly token: string;
  readonly named?: { readonly url: string; readonly publicKey: string };
}

export async function startTestSystem(
  options: Pick<LocalOptions, 'workerArgs' | 'workerEnv' | 'gatewayArgs'> = {},
): Promise<TestSystem> {
  const stateDir = mkdtempSync(join(tmpdir(), 'cfn-test-'));
  const logs: string[] = [];
  const local = await startLocal({
    ...options,
    stateDir,
    onLog: (service, line) => void logs.push(`${service}: ${line}`),
  });
  const { config } = local;
  const author = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  const authorJwk = await exportJWK(author.publicKey);

  const request =
    (base: string, bearer: string) =>
    (method: string, path: string, body?: unknown, token = bearer) =>
      fetch(`${base}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined
          ? {}
          : { body: body instanceof Uint8Array ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
      });
  const control = request(local.gatewayUrl, config.token);
  const kms = request(local.kmsUrl, config.kmsToken);

  return {
    local,
    stateDir,
    logs,
    policy: parseWorkerPolicy(JSON.parse(readFileSync(config.policy, 'utf8'))),
    author: { key: author.privateKey, thumbprint: await calculateJwkThumbprint(authorJwk) },
    control,
    kms,
    async deploy(name, source, change = {}) {
      const bundle = utf8(source);
      const manifest: FunctionManifest = {
        format: 'cfn/function/v1',
        tenant: config.tenant,
        name,
        compatibilityDate: '2026-11-01',
        code: { digest: await sha256Hex(bundle), bytes: bundle.length },
        models: [],
        vars: {},
        limits: { cpuMs: 2_000, wallMs: 5_000, memoryMb: 64 },
        egress: { allow: [] },
        caller: { plaintext: true, logs: 'none' },
        ...change,
      };
      const signed = await signManifest(manifest, author.privateKey, authorJwk);
      const response = await control('POST', `/v1/functions/${config.tenant}/${name}/versions`, {
        manifest: signed.jws,
        bundle: toBase64url(bundle),
      });
      if (response.status !== 201) throw new Error(`deploy answered ${response.status}: ${await response.text()}`);
      return signed.version;
    },
    async push(model, file, { url, token, named } = { url: local.kmsUrl, token: config.kmsToken }) {
      const { publicKey } = (await (await fetch(`${url}/v1/info`)).json()) as { publicKey: string };
      const store = httpBlobStore({ url: `${local.gatewayUrl}/v1/blobs`, token: config.token, fetch });
      const sealed = await sealModel({
        model,
        files: [{ path: 'model.onnx', source: file }],
        kms: named ?? { url, publicKey },
        store,
      });
      const sealedKey = await sealTo(publicKey, sealed.dataKey, dataKeyInfo(sealed.digest, model));
      for (const response of [
        await request(url, token)('PUT', `/v1/models/${sealed.digest}`, { model, sealedKey }),
        await control('POST', '/v1/models', sealed.manifestBytes, local.operatorToken),
      ]) {
        if (!response.ok) throw new Error(`push answered ${response.status}: ${await response.text()}`);
      }
      return sealed.digest;
    },
    async grant(
      digest,
      fn,
      leaseMs = 600_000,
      change = {},
      { url, token } = { url: local.kmsUrl, token: config.kmsToken },
    ) {
      const [tenant = '', name = ''] = fn.split('/');
      const response = await request(url, token)('PUT', `/v1/models/${digest}/grants`, {
        tenant,
        function: name,
        leaseMs,
        until: new Date(Date.now() + 3_600_000).toISOString(),
        ...change,
      });
      if (!response.ok) throw new Error(`grant answered ${response.status}: ${await response.text()}`);
    },
    call: (name, init) => fetch(`${local.gatewayUrl}/f/${config.tenant}/${name}/`, init),
    async stop() {
      await local.stop();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

/** The stable code of a problem answer. */
export async function problemCode(response: Response): Promise<string> {
  return ((await response.json()) as { code: string }).code;
}
