import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateSealingKeyPair, fromBase64url, kmsNonce, toBase64url, toHex } from '../proto/index.ts';
import { problemCode, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

// INV-31: whoever may ask for evidence with a nonce of their own (any caller, and the gateway itself) names that of another party.

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem();
}, 120_000);
afterAll(() => system.stop());

test('INV-31 evidence that a caller asked for with the nonce of a KMS releases no key', async () => {
  const model = 'demo/vad@1';
  const digest = await system.push(model, VAD_MODEL);
  await system.grant(digest, 'demo/granted');
  const source = 'export default { fetch: () => new Response() }';
  await system.deploy('granted', source, { models: [{ binding: 'VAD', model, digest }] });

  const { gatewayUrl } = system.local;
  const attest = async (query: string) =>
    (await (await fetch(`${gatewayUrl}/.well-known/cfn/attestation?function=demo/granted${query}`)).json()) as {
      function: { manifest: string };
      workers: { evidence: { nonce: string } }[];
    };
  const functionManifest = (await attest('')).function.manifest;
  const { challenge } = (await (await system.kms('POST', '/v1/challenge')).json()) as { challenge: string };
  const { publicKey: wrappingKey } = await generateSealingKeyPair();
  const nonce = await kmsNonce(challenge, wrappingKey, digest, functionManifest);
  const evidence = (await attest(`&nonce=${toHex(nonce)}`)).workers[0]?.evidence;
  const release = (changed: object | undefined): Promise<Response> =>
    system.kms('POST', '/v1/release', { challenge, model: digest, functionManifest, wrappingKey, evidence: changed });

  expect(fromBase64url(evidence?.nonce ?? '')).toHaveLength(32);
  const refused = await release(evidence);
  expect([refused.status, await problemCode(refused)]).toEqual([403, 'CFN_NONCE_MISMATCH']);
  const relabelled = await release({ ...evidence, nonce: toBase64url(nonce) });
  expect(relabelled.status).toBe(403);
}, 60_000);
