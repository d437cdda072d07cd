import { generateKeyPair } from 'jose';
import { beforeAll, expect, test, vi } from 'vitest';
import {
  callerNonce,
  CfnError,
  fromHex,
  sha256Hex,
  signManifest,
  toBase64url,
  toHex,
  toProblem,
  utf8,
  type Evidence,
  type FunctionManifest,
  NO_ENDORSEMENTS,
} from '../proto/index.ts';
import type { AppraisalPolicy, AttestationResult } from '../attestation/verifier/index.ts';
import { appraiseDocument, fetchAttestation, type AttestationDocument } from './index.ts';
import { codeOf, urlOf } from './worker.testkit.ts';

// The verifier has its own tests; here evidence with the quote "ok00" holds, for the nonce it carries.
vi.mock('../attestation/verifier/index.ts', () => ({
  parseWorkerPolicy: () => undefined,
  appraise: async (evidence: Evidence, { nonce }: { nonce: Uint8Array }): Promise<Partial<AttestationResult>> => {
    if (toBase64url(nonce) !== evidence.nonce) throw new CfnError('CFN_NONCE_MISMATCH', 'nonce');
    if (evidence.quote !== 'ok00') throw new CfnError('CFN_QUOTE_SIGNATURE', 'quote');
    return { workerId: evidence.workerKeys.repeat(64).slice(0, 64) };
  },
}));

const policy = {} as AppraisalPolicy;
const now = new Date();
const packageBytes = utf8(
  JSON.stringify({
    format: 'cfn/model/v1',
    model: 'acme/m@1',
    files: [
      {
        path: 'model.onnx',
        bytes: 1,
        plaintextDigest: '0'.repeat(64),
        ciphertextDigest: '0'.repeat(64),
        segmentBytes: 1 << 20,
        noncePrefix: '0'.repeat(14),
      },
    ],
    kms: { url: 'https://kms.example', publicKey: 'A'.repeat(43) },
  }),
);
let document: AttestationDocument;
let manifest: FunctionManifest;
let sign: (manifest: FunctionManifest) => Promise<AttestationDocument['function']>;

const worker = (digit: string, quote = 'ok00'): AttestationDocument['workers'][number] => ({
  workerId: digit.repeat(64),
  nonce: '11'.repeat(32),
  evidence: {
    format: 'cfn/evidence/v1',
    tee: 'simulated',
    nonce: toBase64url(fromHex('11'.repeat(32))),
    workerKeys: digit,
    quote,
    gpus: [],
    endorsements: NO_ENDORSEMENTS,
  },
  leaseEndsAt: '2030-01-01T00:00:00Z',
});

beforeAll(async () => {
  const pair = await generateKeyPair('EdDSA', { crv: 'Ed25519' });
  const jwk = await crypto.subtle.exportKey('jwk', pair.publicKey as CryptoKey);
  manifest = {
    format: 'cfn/function/v1',
    tenant: 'acme',
    name: 'echo',
    compatibilityDate: '2026-11-01',
    code: { digest: '0'.repeat(64), bytes: 1 },
    models: [{ binding: 'M', model: 'acme/m@1', digest: await sha256Hex(packageBytes) }],
    vars: {},
    limits: { cpuMs: 1, wallMs: 1, memoryMb: 16 },
    egress: { allow: [] },
    caller: { plaintext: false, logs: 'none' },
  };
  sign = async (it) => {
    const { jws, version } = await signManifest(it, pair.privateKey, jwk as { x: string });
    return { tenant: it.tenant, name: it.name, version, manifest: jws };
  };
  document = {
    function: await sign(manifest),
    models: [toBase64url(packageBytes)],
    workers: [worker('a')],
    policy: { name: 'p', digest: '0'.repeat(64) },
  };
});

test('manifest, models and workers of a document hold', async () => {
  const { workers, refused, manifest: signed, models } = await appraiseDocument(document, { policy, now });
  expect(workers.map(({ workerId }) => workerId)).toEqual(['a'.repeat(64)]);
  expect(refused).toEqual([]);
  expect(signed.manifest).toEqual(manifest);
  expect(models.map(({ model }) => model)).toEqual(['acme/m@1']);
});

test('a worker that does not hold is left out; when none does, its refusal is the answer', async () => {
  const { workers, refused } = await appraiseDocument(
    { ...document, workers: [worker('b', 'bad0'), worker('a')] },
    { policy, now },
  );
  expect(workers).toHaveLength(1);
  expect(refused).toEqual([
    { workerId: 'b'.repeat(64), error: expect.objectContaining({ code: 'CFN_QUOTE_SIGNATURE' }) as CfnError },
  ]);
  expect(await codeOf(appraiseDocument({ ...document, workers: [worker('b', 'bad0')] }, { policy, now }))).toBe(
    'CFN_QUOTE_SIGNATURE',
  );
  expect(await codeOf(appraiseDocument({ ...document, workers: [] }, { policy, now }))).toBe('CFN_WORKER_UNAVAILABLE');
});

test('evidence listed under another worker is refused', async () => {
  const listed = { ...worker('a'), workerId: 'b'.repeat(64) };
  expect(await codeOf(appraiseDocument({ ...document, workers: [listed] }, { policy, now }))).toBe(
    'CFN_EVIDENCE_MALFORMED',
  );
});

test('evidence must answer the nonce that was asked with, whatever the document says', async () => {
  const asked = new Uint8Array(32);
  const answer = await callerNonce(asked);
  expect(await codeOf(appraiseDocument(document, { policy, now, nonce: asked }))).toBe('CFN_NONCE_MISMATCH');
  const [first] = document.workers;
  if (first === undefined) throw new Error('the document has a worker');
  const workers = [{ ...first, evidence: { ...first.evidence, nonce: toBase64url(answer) } }];
  expect(await codeOf(appraiseDocument({ ...document, workers }, { policy, now, nonce: asked }))).toBe('no error');
  const quoted = fromHex('11'.repeat(32)); // what was asked with is never what is quoted
  expect(await codeOf(appraiseDocument(document, { policy, now, nonce: quoted }))).toBe('CFN_NONCE_MISMATCH');
});

test('a manifest that is altered, or of another function or version', async () => {
  const { manifest: jws } = document.function;
  const [header, , signature] = jws.split('.');
  const forged = `${header}.${toBase64url(utf8(JSON.stringify({ ...manifest, egress: { allow: ['evil.example'] } })))}.${signature}`;
  for (const change of [{ manifest: forged }, { tenant: 'other' }, { name: 'other' }, { version: '0'.repeat(64) }]) {
    expect(
      await codeOf(appraiseDocument({ ...document, function: { ...document.function, ...change } }, { policy, now })),
    ).toBe('CFN_MANIFEST_ALTERED');
  }
});

test('a model manifest that is missing, altered, or of another model', async () => {
  const altered = toBase64url(utf8(new TextDecoder().decode(packageBytes).replace('kms.example', 'kms.evil000')));
  for (const models of [[], [altered]])
    expect(await codeOf(appraiseDocument({ ...document, models }, { policy, now }))).toBe('CFN_ARTIFACT_ALTERED');
  const [binding] = manifest.models;
  const renamed = await sign({ ...manifest, models: binding ? [{ ...binding, model: 'acme/other@1' }] : [] });
  expect(await codeOf(appraiseDocument({ ...document, function: renamed }, { policy, now }))).toBe(
    'CFN_ARTIFACT_ALTERED',
  );
});

test('fetching: the document, what the gateway says, and what it cannot say', async () => {
  const fetchWith = (
    respond: (url: URL) => Response | Promise<Response>,
    nonce?: Uint8Array,
  ): Promise<AttestationDocument> =>
    fetchAttestation({
      endpoint: 'http://gw.example',
      function: 'acme/echo',
      nonce,
      fetch: async (input) => respond(urlOf(input)),
    });
  const urls: string[] = [];
  const record = (url: URL): Response => {
    urls.push(url.href);
    return Response.json(document);
  };
  expect(await fetchWith(record)).toEqual(document);
  await fetchWith(record, fromHex('22'.repeat(32)));
  expect(urls).toEqual([
    'http://gw.example/.well-known/cfn/attestation?function=acme%2Fecho',
    `http://gw.example/.well-known/cfn/attestation?function=acme%2Fecho&nonce=${toHex(fromHex('22'.repeat(32)))}`,
  ]);
  const missing = new CfnError('CFN_FUNCTION_NOT_FOUND', 'no such function');
  expect(await codeOf(fetchWith(() => Response.json(toProblem(missing), { status: 404 })))).toBe(
    'CFN_FUNCTION_NOT_FOUND',
  );
  expect(await codeOf(fetchWith(() => new Response('<html>', { status: 502 })))).toBe('CFN_GATEWAY_UNREACHABLE');
  expect(await codeOf(fetchWith(() => Promise.reject(new TypeError('fetch failed'))))).toBe('CFN_GATEWAY_UNREACHABLE');
  expect(await codeOf(fetchWith(() => Response.json({ ...document, extra: 1 })))).toBe('CFN_EVIDENCE_MALFORMED');
});
