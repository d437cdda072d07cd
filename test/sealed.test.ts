import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { appraiseDocument, fetchAttestation, sealRequest, type SealedExchange } from '../client/index.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

let system: TestSystem;
let version = '';
beforeAll(async () => {
  system = await startTestSystem();
  version = await system.deploy('echo', 'export default { fetch: () => new Response("hello") }');
});
afterAll(() => system.stop());

async function seal(change: { version?: string; now?: Date } = {}) {
  const document = await fetchAttestation({ endpoint: system.local.gatewayUrl, function: 'demo/echo', fetch });
  const { workers } = await appraiseDocument(document, { policy: system.policy, now: new Date() });
  const [worker] = workers.values();
  if (worker === undefined) throw new Error('no worker was accepted');
  const exchange: SealedExchange = await sealRequest({
    workerKeys: worker.workerKeys,
    workerId: worker.workerId,
    version,
    now: new Date(),
    request: { method: 'GET', authority: 'gateway', path: '/', headers: [] },
    ...change,
  });
  const parts: Uint8Array[] = [];
  for await (const part of exchange.body) parts.push(part);
  return { exchange, bytes: Buffer.concat(parts), workerId: worker.workerId };
}

const send = (bytes: Uint8Array, workerId: string): Promise<Response> =>
  fetch(`${system.local.gatewayUrl}/f/demo/echo/`, {
    method: 'POST',
    headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': workerId },
    body: bytes as Uint8Array<ArrayBuffer>,
  });

/** The sealed answer's status and problem code, with the outcome in its receipt. */
async function open(exchange: SealedExchange, response: Response): Promise<[number, string, string]> {
  if (response.body === null) throw new Error('no body');
  const answer = await exchange.open(response.body);
  let text = '';
  for await (const part of answer.body) text += Buffer.from(part).toString();
  const { receipt } = await answer.receipt;
  return [answer.status, text.startsWith('{') ? (JSON.parse(text) as { code: string }).code : text, receipt.outcome];
}

describe('INV-13 a sealed request runs once, on the version it was sealed for', () => {
  test('it is answered the first time, and refused the second', async () => {
    const { exchange, bytes, workerId } = await seal();
    expect(await open(exchange, await send(bytes, workerId))).toEqual([200, 'hello', 'ok']);
    // The refusal is sealed to the request's own key, which the first answer has used up: only its receipt is public.
    const again = await send(bytes, workerId);
    await again.arrayBuffer();
    expect(await outcomeOf(again)).toBe('CFN_REQUEST_REPLAYED');
  });

  test('sealed for another version, it is refused', async () => {
    const { exchange, bytes, workerId } = await seal({ version: 'b'.repeat(64) });
    const answer = await send(bytes, workerId);
    // The receipt names the version it was routed to, which is not the one that this client pins.
    await expect(open(exchange, answer)).rejects.toMatchObject({ code: 'CFN_RECEIPT_INVALID' });
    expect(await outcomeOf(answer)).toBe('CFN_VERSION_MISMATCH');
  });

  test('with a Date far off, it is refused', async () => {
    const { exchange, bytes, workerId } = await seal({ now: new Date(Date.now() - 3_600_000) });
    expect(await open(exchange, await send(bytes, workerId))).toEqual([
      408,
      'CFN_REQUEST_EXPIRED',
      'CFN_REQUEST_EXPIRED',
    ]);
  });

  test('cut or altered, it never runs', async () => {
    const { bytes, workerId } = await seal();
    const altered = Buffer.from(bytes);
    altered[60] = (altered[60] ?? 0) ^ 1;
    for (const bad of [bytes.subarray(0, bytes.length - 1), bytes.subarray(0, 20), altered]) {
      const answer = await send(bad, workerId);
      expect([answer.status, await problemCode(answer)]).toEqual([400, 'CFN_REQUEST_MALFORMED']);
    }
  });

  test('for a worker that is not there, it is refused before it leaves the gateway', async () => {
    const { bytes } = await seal();
    const answer = await send(bytes, 'c'.repeat(64));
    expect([answer.status, await problemCode(answer)]).toEqual([422, 'CFN_KEY_CONFIG_STALE']);
  });
});

async function outcomeOf(answer: Response): Promise<string> {
  const url = `${system.local.gatewayUrl}/.well-known/cfn/receipts/${answer.headers.get('cfn-request-id')}`;
  const jws = await (await fetch(url)).text();
  return (JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()) as { outcome: string }).outcome;
}
