import { createHash } from 'node:crypto';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { appraiseDocument, fetchAttestation, sealRequest } from '../client/index.ts';
import { verifyReceipt, type Receipt, type WorkerKeys } from '../proto/index.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

/** INV-41: every refusal of a worker has a receipt, also where nothing could be opened. */

let system: TestSystem;
let version = '';
let worker: { readonly workerId: string; readonly workerKeys: WorkerKeys };
beforeAll(async () => {
  system = await startTestSystem();
  version = await system.deploy('echo', 'export default { fetch: async (r) => new Response(await r.text()) }');
  const document = await fetchAttestation({ endpoint: system.local.gatewayUrl, function: 'demo/echo', fetch });
  const [first] = (await appraiseDocument(document, { policy: system.policy, now: new Date() })).workers.values();
  if (first === undefined) throw new Error('no worker was accepted');
  worker = first;
});
afterAll(() => system.stop());

async function sealed(body = 'x'): Promise<Buffer> {
  const exchange = await sealRequest({
    workerKeys: worker.workerKeys,
    workerId: worker.workerId,
    version,
    now: new Date(),
    request: { method: 'POST', authority: 'gateway', path: '/', headers: [], body: Buffer.from(body) },
  });
  const parts: Uint8Array[] = [];
  for await (const part of exchange.body) parts.push(part);
  return Buffer.concat(parts);
}
const send = (bytes: Uint8Array): Promise<Response> =>
  fetch(`${system.local.gatewayUrl}/f/demo/echo/`, {
    method: 'POST',
    headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': worker.workerId },
    body: bytes as Uint8Array<ArrayBuffer>,
  });
async function receiptOf(answer: Response): Promise<Receipt> {
  const id = answer.headers.get('cfn-request-id') ?? '';
  const found = await fetch(`${system.local.gatewayUrl}/.well-known/cfn/receipts/${id}`);
  expect(found.status).toBe(200);
  return verifyReceipt(await found.text(), worker.workerKeys.receipt.publicKey);
}

describe('INV-41 a refusal before the seal is open has a receipt', () => {
  test.each([
    ['noise', async () => Buffer.alloc(200, 7), 'CFN_KEY_CONFIG_STALE'],
    ['an altered byte', async () => flipped(await sealed(), -20), 'CFN_REQUEST_MALFORMED'],
    ['a missing end', async () => (await sealed()).subarray(0, -10), 'CFN_REQUEST_MALFORMED'],
    ['nothing', async () => Buffer.alloc(0), 'CFN_REQUEST_MALFORMED'],
  ])('%s', async (_, make, code) => {
    const bytes = await make();
    const answer = await send(bytes);
    expect(await problemCode(answer)).toBe(code);
    const receipt = await receiptOf(answer);
    expect(receipt).toMatchObject({
      outcome: code,
      function: { tenant: 'demo', name: 'echo', version },
      request: { digest: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length },
      response: { bytes: 0, status: answer.status },
    });
  });

  test('an upload over the limit of the function: with the bytes that were read', async () => {
    const limits = { cpuMs: 2_000, wallMs: 5_000, memoryMb: 64, requestMb: 1 };
    version = await system.deploy('echo', 'export default { fetch: async (r) => new Response("small") }', { limits });
    const answer = await send(await sealed('x'.repeat(1.5 * 1024 * 1024)));
    const code = await problemCode(answer);
    expect(code).toBe('CFN_BODY_TOO_LARGE');
    expect(await receiptOf(answer)).toMatchObject({ outcome: code });
  });
});

test('INV-41 use is told in whole microseconds, and no refusal of the gateway itself has a receipt', async () => {
  const answer = await system.call('echo', { method: 'POST', body: 'x' });
  await answer.arrayBuffer();
  const { usage } = await receiptOf(answer);
  for (const ms of [usage.cpuMs, usage.wallMs, usage.engineMs]) expect(Math.round(ms * 1000) / 1000).toBe(ms);
  const refused = await system.call('nobody');
  const id = refused.headers.get('cfn-request-id') ?? '';
  const none = await fetch(`${system.local.gatewayUrl}/.well-known/cfn/receipts/${id}`);
  expect(await problemCode(none)).toBe('CFN_RECEIPT_NOT_FOUND');
});

test('receipts of a worker are one chain, refusals included', async () => {
  const usage = (await (await system.control('GET', '/v1/usage', undefined, system.local.operatorToken)).json()) as {
    usage: { requests: number; failed: number }[];
  };
  expect(usage.usage.reduce((sum, { failed }) => sum + failed, 0)).toBe(5);
  const answer = await system.call('echo', { method: 'POST', body: 'x' });
  await answer.arrayBuffer();
  const jws = await fetch(
    `${system.local.gatewayUrl}/.well-known/cfn/receipts/${answer.headers.get('cfn-request-id') ?? ''}`,
  );
  const { sequence } = decodeJwt(await jws.text()) as unknown as Receipt;
  const total = usage.usage.reduce((sum, { requests }) => sum + requests, 0);
  expect(sequence).toBe(total);
  expect(await (await fetch(`${system.local.adminUrl}/metrics`)).text()).toMatch(/^cfn_receipt_gaps_total 0$/m);
});

const flipped = (bytes: Buffer, at: number): Buffer => {
  const altered = Buffer.from(bytes);
  const index = at < 0 ? altered.length + at : at;
  altered[index] = (altered[index] ?? 0) ^ 1;
  return altered;
};
