import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { confidentialFetch, type ConfidentialFetch } from '../client/index.ts';
import { root, startTestSystem, type TestSystem } from './local-system.ts';

/** `cfn relay serve` between the client and the real runtime; what reaches the gateway is looked at on the way. */

const CALLER = '127.0.0.77';
const ECHO = `export default { fetch: (request) =>
  new Response(request.body?.pipeThrough(new TransformStream()), { headers: { 'x-path': new URL(request.url).pathname } }) }`;

let system: TestSystem;
let front: Server;
let relay: ChildProcess;
let relayUrl: string;
let endpoint: string;
const seen: { address: string; url: string; fields: string[] }[] = [];

beforeAll(async () => {
  system = await startTestSystem();
  await system.deploy('echo', ECHO, { caller: { plaintext: false, logs: 'none' } });
  // What stands before the gateway sees what the gateway would.
  front = createServer((request, response) => {
    const { method, url = '', headers, rawHeaders, socket } = request;
    const fields = rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
    seen.push({ address: socket.remoteAddress ?? '', url, fields: fields.toSorted() });
    const onward = httpRequest(new URL(url, system.local.gatewayUrl), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  endpoint = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
  relay = spawn(
    process.execPath,
    [join(root, 'cli/main.ts'), 'relay', 'serve', '--to', endpoint, '--listen', '127.0.0.1:0'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  if (relay.stdout === null) throw new Error('no output');
  const [line] = (await once(createInterface({ input: relay.stdout }), 'line')) as [string];
  relayUrl = (JSON.parse(line) as { url: string }).url;
});
afterAll(async () => {
  relay?.kill('SIGTERM');
  front?.closeAllConnections();
  front?.close();
  await system?.stop();
});

/** A `fetch` of a caller with an address and fields of its own. */
const callersFetch: typeof fetch = async (input, init = {}) => {
  const headers = { ...(init.headers as Record<string, string>), cookie: 'who=me', 'user-agent': 'Mine/1' };
  const request = httpRequest(String(input instanceof Request ? input.url : input), {
    method: init.method ?? 'GET',
    headers,
    localAddress: CALLER,
  });
  request.end(init.body);
  const [answer] = (await once(request, 'response')) as [IncomingMessage];
  return new Response(Readable.toWeb(answer) as ReadableStream<Uint8Array>, {
    status: answer.statusCode ?? 0,
    headers: answer.headers as Record<string, string>,
  });
};
const open = (options: { relay?: string; fetch?: typeof fetch }): Promise<ConfidentialFetch> =>
  confidentialFetch({ endpoint, function: 'demo/echo', policy: system.policy, ...options });

describe('INV-38 through a relay', () => {
  test('the gateway sees the address of the relay, and nothing that the caller says of itself', async () => {
    const direct = await open({ fetch: callersFetch });
    await (await direct('/direct')).text();
    expect(new Set(seen.map(({ address }) => address))).toEqual(new Set([CALLER])); // so it would be without
    seen.length = 0;

    const call = await open({ relay: relayUrl, fetch: callersFetch });
    const answer = await call('/private/path', { method: 'POST', body: 'secret', headers: { 'x-mine': '1' } });
    expect([await answer.text(), answer.headers.get('x-path')]).toEqual(['secret', '/private/path']);
    const { receipt } = await answer.confidentiality.receipt;
    expect(receipt).toMatchObject({ outcome: 'ok', function: { name: 'echo' } });

    expect(seen.map(({ address }) => address)).toEqual(['127.0.0.1', '127.0.0.1']);
    expect(seen.map(({ url }) => url)).toEqual(['/.well-known/cfn/attestation?function=demo%2Fecho', '/f/demo/echo/']);
    expect(seen[1]?.fields).toEqual([
      'accept',
      'cfn-function-version',
      'cfn-worker',
      'connection',
      'content-length',
      'content-type',
      'host',
      'incremental',
    ]);
  });

  test('bodies stream both ways', async () => {
    const call = await open({ relay: relayUrl });
    const next = Promise.withResolvers<void>();
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(Buffer.from('first'));
        await next.promise;
        controller.enqueue(Buffer.from('second'));
        controller.close();
      },
    });
    const answer = await call('/', { method: 'POST', body });
    const got: string[] = [];
    for await (const piece of answer.body ?? []) {
      got.push(Buffer.from(piece).toString());
      next.resolve(); // sent once the first piece has come back
    }
    expect(got.join('|')).toBe('first|second');
    expect((await answer.confidentiality.receipt).receipt.outcome).toBe('ok');
  });

  test('what the relay refuses is told with a code', async () => {
    const elsewhere = confidentialFetch({
      endpoint: 'http://gateway.example',
      function: 'demo/echo',
      policy: system.policy,
      relay: relayUrl,
    });
    await expect(elsewhere).rejects.toMatchObject({ code: 'CFN_NOT_FOUND' });
  });
});
