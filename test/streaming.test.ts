import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  appraiseDocument,
  confidentialFetch,
  fetchAttestation,
  sealRequest,
  type ConfidentialFetch,
} from '../client/index.ts';
import { processTree } from '../deploy/index.ts';
import { nodeHasher, nodeSuite } from '../proto/node.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

const MiB = 1024 * 1024;
/** Sent through in the test of bounded memory; `CFN_STREAM_MB` sets another, such as 1024. */
const LARGE_BYTES = Number(process.env['CFN_STREAM_MB'] ?? 160) * MiB;
/** What a process may take over what it takes for a small body, in bytes. */
const OVER_IDLE_BYTES_MAX = 64 * MiB;
const PIECE = randomBytes(64 * 1024);
const MEMORY_CODES = ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST'];

const HANDLERS = {
  echo: `request => new Response(request.body.pipeThrough(new TransformStream({ transform(chunk, c) { c.enqueue(chunk); } })))`,
  plain: `request => new Response(request.body)`,
  buffer: `async request => new Response(await request.arrayBuffer())`,
  count: `async request => {
    let bytes = 0;
    for await (const piece of request.body) bytes += piece.length;
    return Response.json({ bytes });
  }`,
  byob: `async request => {
    const reader = request.body.getReader({ mode: 'byob' });
    let bytes = 0, sum = 0, buffer = new ArrayBuffer(4096);
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      if (done) return Response.json({ bytes, sum });
      bytes += value.length;
      for (const byte of value) sum += byte;
      buffer = value.buffer;
    }
  }`,
  produce: `request => {
    let left = Number(new URL(request.url).searchParams.get('bytes'));
    return new Response(new ReadableStream({ type: 'bytes', pull(c) {
      const piece = new Uint8Array(Math.min(65536, left)).fill(7);
      left -= piece.length;
      c.enqueue(piece);
      if (left === 0) c.close();
    } }));
  }`,
  events: `() => {
    let n = 0;
    return new Response(new ReadableStream({ async pull(c) {
      if (n > 0) await new Promise((r) => setTimeout(r, 300));
      c.enqueue(new TextEncoder().encode('data: ' + n + '\\n\\n'));
      if (++n === 3) c.close();
    } }), { headers: { 'content-type': 'text/event-stream' } });
  }`,
  early: `() => new Response('early', { status: 202 })`,
  forever: `request => new Response(new ReadableStream({ async pull(c) { await new Promise((r) => setTimeout(r, 20)); c.enqueue(new Uint8Array(10)); } }))`,
  waits: `async request => { await request.body.getReader().read(); await new Promise(() => {}); }`,
  catches: `async request => { try { return Response.json({ bytes: (await request.arrayBuffer()).byteLength }); } catch (e) { return new Response('caught ' + e.code); } }`,
};
const SOURCE = `const handlers = {${Object.entries(HANDLERS)
  .map(([name, code]) => `${name}: ${code}`)
  .join(',\n')}};
export default { fetch: (request, env, ctx) => handlers[new URL(request.url).pathname.slice(1)](request, env, ctx) };`;

let system: TestSystem;
let sealed: ConfidentialFetch;
beforeAll(async () => {
  system = await startTestSystem();
  const limits = { cpuMs: 120_000, wallMs: 240_000, memoryMb: 64, requestMb: 2048, responseMb: 2048 };
  await system.deploy('stream', SOURCE, { limits });
  await system.deploy('small', SOURCE, {
    limits: { cpuMs: 10_000, wallMs: 3_000, memoryMb: 64, requestMb: 2, responseMb: 2 },
  });
  sealed = await confidentialFetch({
    endpoint: system.local.gatewayUrl,
    function: 'demo/stream',
    policy: system.policy,
    suite: nodeSuite,
    hasher: nodeHasher,
  });
});
afterAll(() => system.stop());

type Call = (path: string, init?: RequestInit) => Promise<Response>;
const open: Call = (path, init) => fetch(`${system.local.gatewayUrl}/f/demo/stream${path}`, init);
const small: Call = (path, init) => fetch(`${system.local.gatewayUrl}/f/demo/small${path}`, init);
const MODES: [string, Call][] = [
  ['open', open],
  ['sealed', (path, init) => sealed(path, init)],
];

/** A body of that many bytes in pieces; tells how many were taken. */
function body(bytes: number, onPiece?: (sent: number) => Promise<void> | void): RequestInit {
  let sent = 0;
  const stream = new ReadableStream(
    {
      async pull(controller) {
        const piece = PIECE.subarray(0, Math.min(PIECE.length, bytes - sent));
        sent += piece.length;
        await onPiece?.(sent);
        controller.enqueue(Uint8Array.from(piece));
        if (sent === bytes) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  return { method: 'POST', body: stream, duplex: 'half' } as RequestInit;
}
async function digestOf(pieces: AsyncIterable<Uint8Array> | null): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of pieces ?? []) {
    bytes += piece.length;
    hash.update(piece);
  }
  return { bytes, digest: hash.digest('hex') };
}
function expectedDigest(bytes: number): string {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes; at += PIECE.length) hash.update(PIECE.subarray(0, Math.min(PIECE.length, bytes - at)));
  return hash.digest('hex');
}
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Resident bytes by process, of gateway and worker with all its children. */
function resident(): Map<number, number> {
  const pids = [...processTree(system.local.gateway.pid), ...processTree(system.local.worker().pid)];
  return new Map(
    pids.map((pid) => [pid, Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024]),
  );
}
/** The most that any process took over `idle` while `work` ran. */
async function growth(idle: Map<number, number>, work: Promise<unknown>): Promise<Record<string, number>> {
  const most = new Map<number, number>();
  const timer = setInterval(() => {
    for (const [pid, bytes] of resident())
      most.set(pid, Math.max(most.get(pid) ?? 0, bytes - (idle.get(pid) ?? bytes)));
  }, 20);
  try {
    await work;
  } finally {
    clearInterval(timer);
  }
  return Object.fromEntries(
    [...most].map(([pid, bytes]) => [
      `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        .split('\0')
        .find((part) => part.endsWith('.ts'))
        ?.split('/')
        .slice(-2)
        .join('/')}`,
      bytes,
    ]),
  );
}

/** Outcomes of all receipts in the ledger, in the order they were written. */
function outcomes(): string[] {
  const ledger = new DatabaseSync(join(system.stateDir, 'gateway/gateway.sqlite'), { readOnly: true });
  try {
    return ledger
      .prepare('SELECT jws FROM receipts ORDER BY rowid')
      .all()
      .map(({ jws }) => outcomeOf(String(jws)));
  } finally {
    ledger.close();
  }
}
const outcomeOf = (jws: string): string =>
  (JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()) as { outcome: string }).outcome;
/** What was written since. */
const newOutcomes = (since: number): Promise<string[]> =>
  expect
    .poll(() => outcomes().slice(since), { timeout: 5_000 })
    .not.toEqual([])
    .then(() => outcomes().slice(since));

/** Seals by hand, as a client that does not keep to the rules. Gives the status and code outside the seal. */
async function sealBadly(
  name: string,
  path: string,
  bytes: number,
  { cutBytes = 0, ...limits }: { cutBytes?: number; requestBytesMax?: number },
): Promise<[number, string]> {
  const document = await fetchAttestation({ endpoint: system.local.gatewayUrl, function: `demo/${name}`, fetch });
  const { workers, manifest } = await appraiseDocument(document, { policy: system.policy, now: new Date() });
  const [worker] = workers;
  if (worker === undefined) throw new Error('no worker was accepted');
  const content = (async function* () {
    for (let sent = 0; sent < bytes; sent += PIECE.length) yield PIECE;
  })();
  const exchange = await sealRequest({
    workerKeys: worker.workerKeys,
    workerId: worker.workerId,
    version: manifest.version,
    now: new Date(),
    request: { method: 'POST', authority: 'gateway', path, headers: [], body: content },
    suite: nodeSuite,
    ...limits,
  });
  const pieces: Uint8Array[] = [];
  for await (const piece of exchange.body) pieces.push(piece);
  const sealedBytes = Buffer.concat(pieces);
  const answer = await fetch(`${system.local.gatewayUrl}/f/demo/${name}/`, {
    method: 'POST',
    headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': worker.workerId },
    body: sealedBytes.subarray(0, sealedBytes.length - cutBytes),
  });
  return [answer.status, await problemCode(answer)];
}

/** A plain upload that the test sends by hand. */
function upload(path: string, headers: Record<string, string> = {}) {
  const request = httpRequest(`${system.local.gatewayUrl}/f/demo/${path}`, { method: 'POST', headers });
  request.on('error', () => undefined);
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('close', () => reject(new Error('closed without an answer')));
  });
  answer.catch(() => undefined);
  return { request, answer };
}

describe('a large body flows with bounded memory in every process', () => {
  const jobs: [name: string, mode: string, call: Call, (call: Call, bytes: number) => Promise<void>][] = [
    ['in and out', 'open', open, echo],
    ['in and out', 'sealed', (path, init) => sealed(path, init), echo],
    ['in', 'sealed', (path, init) => sealed(path, init), count],
    ['out', 'open', open, produce],
  ];
  async function echo(call: Call, bytes: number): Promise<void> {
    const answer = await call('/echo', body(bytes));
    expect(await digestOf(answer.body)).toEqual({ bytes, digest: expectedDigest(bytes) });
  }
  async function count(call: Call, bytes: number): Promise<void> {
    expect(await (await call('/count', body(bytes))).json()).toEqual({ bytes });
  }
  async function produce(call: Call, bytes: number): Promise<void> {
    expect((await digestOf((await call(`/produce?bytes=${bytes}`)).body)).bytes).toBe(bytes);
  }
  test.each(jobs)(
    '%s, %s',
    async (_name, _mode, call, job) => {
      await job(call, 8 * MiB); // what any body costs
      await sleep(500);
      const idle = resident();
      for (const [process_, bytes] of Object.entries(await growth(idle, job(call, LARGE_BYTES))))
        expect(bytes, process_).toBeLessThan(OVER_IDLE_BYTES_MAX);
    },
    900_000,
  );
});

describe.each(MODES)('%s', (_mode, call) => {
  test('any chunking gives the same bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 30 }),
        fc.constantFrom('/plain', '/echo', '/buffer'),
        async (lengths, path) => {
          const pieces = lengths.map((length) => randomBytes(length));
          const stream = new ReadableStream({
            pull(controller) {
              const piece = pieces[next++];
              if (piece === undefined) controller.close();
              else controller.enqueue(new Uint8Array(piece));
            },
          });
          let next = 0;
          const answer = await call(path, { method: 'POST', body: stream, duplex: 'half' } as RequestInit);
          expect(Buffer.from(await answer.arrayBuffer()).equals(Buffer.concat(pieces))).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });

  test('each event of a stream reaches the caller at once', async () => {
    const answer = await call('/events');
    const at: number[] = [];
    let text = '';
    for await (const piece of answer.body ?? []) {
      at.push(performance.now());
      text += Buffer.from(piece).toString();
    }
    expect(text).toBe('data: 0\n\ndata: 1\n\ndata: 2\n\n');
    expect(at).toHaveLength(3);
    // 300 ms lie between two events at the source: together they would come within a few.
    for (let i = 1; i < at.length; i++) expect((at[i] ?? 0) - (at[i - 1] ?? 0)).toBeGreaterThan(150);
  });

  test('a byte-stream reader gets a body that is still coming', async () => {
    const answer = await call('/byob', body(3 * MiB));
    const sum = Buffer.concat(Array.from({ length: 48 }, () => PIECE)).reduce((total, byte) => total + byte, 0);
    expect(await answer.json()).toEqual({ bytes: 3 * MiB, sum });
  });

  test('a slow writer is waited for, and what it has sent is there meanwhile', async () => {
    const gate = Promise.withResolvers<void>();
    const answer = call(
      '/plain',
      body(3 * PIECE.length, (sent) => (sent > PIECE.length ? gate.promise : undefined)),
    );
    const reader = ((await answer).body ?? new ReadableStream()).getReader() as ReadableStreamDefaultReader<Uint8Array>;
    let bytes = 0;
    while (bytes < PIECE.length) bytes += (await reader.read()).value?.length ?? 0;
    expect(bytes).toBe(PIECE.length);
    gate.resolve();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) bytes += piece.value.length;
    expect(bytes).toBe(3 * PIECE.length);
  });

  test('a slow reader holds up the source: the windows fill, and no more is made', async () => {
    let taken = 0;
    const answer = await call(
      '/echo',
      body(64 * MiB, (sent) => void (taken = sent)),
    );
    const reader = (answer.body ?? new ReadableStream()).getReader();
    await reader.read();
    let before = -1;
    while (taken !== before) {
      before = taken;
      await sleep(500);
    }
    expect(taken).toBeLessThan(40 * MiB); // sockets of the kernel hold some MiB at each hop
    await reader.cancel();
  });

  test('what a handler does not read is drained, and its answer comes out', async () => {
    const answer = await call('/early', body(24 * MiB));
    expect([answer.status, await answer.text()]).toEqual([202, 'early']);
  });

  test('arrayBuffer() of more than the memory limit is CFN_LIMIT_MEMORY', async () => {
    const before = outcomes().length;
    // The rest of the upload may come too late for an answer inside the seal.
    const code = await call('/buffer', body(100 * MiB)).then(problemCode, (error: { code: string }) => error.code);
    expect(MEMORY_CODES).toContain(code);
    // So that no later test takes its outcome for its own.
    const mine = (): boolean =>
      outcomes()
        .slice(before)
        .some((it) => MEMORY_CODES.includes(it));
    await expect.poll(mine, { timeout: 5_000 }).toBe(true);
  });
});

describe('limits of bodies', () => {
  test('a body over the limit is refused where its length is announced', async () => {
    const answer = await small('/count', { method: 'POST', body: new Uint8Array(2 * MiB + 1) });
    expect([answer.status, await problemCode(answer)]).toEqual([413, 'CFN_BODY_TOO_LARGE']);
  });
  test('and in the middle where it is not', async () => {
    const before = outcomes().length;
    const { request, answer } = upload('small/count');
    for (let i = 0; i < 33; i++) request.write(PIECE);
    const { statusCode } = await answer;
    expect([statusCode, await newOutcomes(before)]).toEqual([413, ['CFN_ABORTED']]);
    request.destroy();
  });
  test('the worker itself refuses more than the manifest allows, whatever the client does', async () => {
    const before = outcomes().length;
    expect(await sealBadly('small', '/count', 3 * MiB, { requestBytesMax: 64 * MiB })).toEqual([
      413,
      'CFN_BODY_TOO_LARGE',
    ]);
    expect(await newOutcomes(before)).toEqual(['CFN_BODY_TOO_LARGE']);
  });
  test('a response over the limit is cut, and its receipt says why', async () => {
    const before = outcomes().length;
    const answer = await small(`/produce?bytes=${3 * MiB}`);
    await expect(answer.arrayBuffer()).rejects.toThrow();
    expect(await newOutcomes(before)).toEqual(['CFN_LIMIT_RESPONSE']);
  });
  test('a slow upload ends with the wall limit', async () => {
    const before = outcomes().length;
    const { request, answer } = upload('small/count');
    const timer = setInterval(() => request.write(PIECE.subarray(0, 10)), 100);
    const { statusCode } = await answer.finally(() => clearInterval(timer));
    expect([statusCode, await newOutcomes(before)]).toEqual([504, ['CFN_LIMIT_WALL']]);
    request.destroy();
  });
});

describe('what breaks off', () => {
  test('a caller who goes while it uploads: the invocation is aborted, with a receipt', async () => {
    const before = outcomes().length;
    const { request } = upload('stream/waits', { 'content-length': String(8 * MiB) });
    request.write(PIECE);
    await sleep(500);
    request.destroy();
    expect(await newOutcomes(before)).toEqual(['CFN_ABORTED']);
  });

  test('a caller who goes while it downloads: the receipt says so', async () => {
    for (const call of [open, sealed as Call]) {
      const leaving = new AbortController();
      const before = outcomes().length;
      const answer = await call('/forever', { signal: leaving.signal });
      await (answer.body ?? new ReadableStream()).getReader().read();
      leaving.abort();
      expect(await newOutcomes(before)).toEqual(['CFN_ABORTED']);
    }
  });

  test('INV-17 a sealed request without its end never looks whole to a function, nor is it answered', async () => {
    const before = outcomes().length;
    expect(await sealBadly('stream', '/catches', 3 * MiB, { cutBytes: 40 })).toEqual([400, 'CFN_REQUEST_MALFORMED']);
    expect(await newOutcomes(before)).toEqual(['CFN_REQUEST_MALFORMED']);
  });

  test('a worker that is killed: the caller sees a cut, never an end', async () => {
    for (const call of [open, sealed as Call]) {
      const answer = await call('/forever');
      const reading = answer.arrayBuffer();
      reading.catch(() => undefined);
      await sleep(200);
      system.local.worker().kill('SIGKILL'); // its children end with it
      await expect(reading).rejects.toThrow();
      await system.local.startWorker();
    }
  });

  test('a gateway that is killed: the caller sees a cut, and the worker ends the invocation', async () => {
    const answer = await open('/forever');
    const reading = answer.arrayBuffer();
    reading.catch(() => undefined);
    await sleep(200);
    system.local.gateway.kill('SIGKILL');
    await expect(reading).rejects.toThrow();
  });
});
