import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CHALLENGE_MS, CHALLENGES_MAX, type ReleaseRequest, type SignedManifest } from '../proto/index.ts';
import { startKmsProcess, type KmsProcess } from './kms-process.testkit.ts';
import { CONNECTIONS_MAX } from './limits.ts';
import {
  addOwner,
  digest,
  grantOf,
  newAuthor,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type Answer,
  type Author,
  type ReachedKms,
  type Send,
  type TestWorker,
} from './test-kms.ts';

// What workers, strangers and owners may send to the real service, over HTTP. Its clock is moved by a file.

const CLOCK = `
import { readFileSync } from 'node:fs';
const RealDate = Date;
const offset = () => Number(readFileSync(process.env.CFN_TEST_CLOCK, 'utf8'));
globalThis.Date = class extends RealDate {
  constructor(...given) { given.length === 0 ? super(RealDate.now() + offset()) : super(...given); }
  static now() { return RealDate.now() + offset(); }
};`;

let folder: string;
let process_: KmsProcess;
let kms: ReachedKms;
let owner: { token: string; dataKey: Uint8Array };
let author: Author;
let use: SignedManifest;
let worker: TestWorker;
const agent = new Agent({ keepAlive: true, maxSockets: 128 });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-bad-'));
  writeFileSync(join(folder, 'policy.json'), JSON.stringify((await startKms()).policy));
  writeFileSync(join(folder, 'clock.mjs'), CLOCK);
  setClock(0);
  process_ = await startService('state');
  kms = reach(process_, 'state');
  owner = await addOwner(kms);
  author = await newAuthor();
  use = await signFunction({}, author);
  const granted = await kms.send(
    'PUT',
    `/v1/models/${digest}/grants`,
    grantOf(kms, { version: use.version }),
    owner.token,
  );
  expect(granted.status).toBe(200);
  worker = await startWorker(kms);
});
beforeEach(() => setClock(0));
afterAll(() => {
  agent.destroy();
  process_.child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

const setClock = (offsetMs: number): void => writeFileSync(join(folder, 'offset'), String(offsetMs));
const startService = (state: string): Promise<KmsProcess> =>
  startKmsProcess(['--state', join(folder, state), '--policy', join(folder, 'policy.json')], {
    NODE_OPTIONS: `--import ${join(folder, 'clock.mjs')}`,
    CFN_TEST_CLOCK: join(folder, 'offset'),
  });
const reach = ({ url, publicKey }: KmsProcess, state: string): ReachedKms => ({
  admin: readFileSync(join(folder, state, 'admin.token'), 'utf8'),
  send: sender(url),
  deps: { now: () => new Date(), sealingKey: { publicKey } },
});
const sender =
  (url: string): Send =>
  (method, path, body, token) =>
    new Promise((resolve, reject) => {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const call = httpRequest(new URL(path, url), { method, agent, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Answer['body'] }),
        );
      });
      call.on('error', reject).end(body === undefined ? '' : JSON.stringify(body));
    });

const fresh = (of = use): Promise<ReleaseRequest> => releaseRequest(kms, worker, of);
const release = (asked: object): Promise<Answer> => kms.send('POST', '/v1/release', asked);
async function expectRefused(asked: object, status: number, code: string): Promise<void> {
  const answer = await release(asked);
  expect(answer).toMatchObject({ status, body: { code } });
  expect(answer.body['wrappedKey']).toBeUndefined();
}

describe('bad input over HTTP', () => {
  test('what is right is released: the refusals below are for what is wrong in each', async () => {
    expect((await release(await fresh())).body).toMatchObject({ leaseMs: expect.any(Number) as number });
  });

  test('10,000 parallel challenges: the oldest are dropped, memory stays bounded, the newest serve', async () => {
    const early = await fresh();
    const flood = async (): Promise<void> => {
      const answers = await Promise.all(
        Array.from({ length: CHALLENGES_MAX }, () => kms.send('POST', '/v1/challenge')),
      );
      expect(answers.every(({ status }) => status === 200)).toBe(true);
    };
    await flood();
    const residentBefore = residentBytes();
    await flood();
    await flood();
    expect(residentBytes() - residentBefore).toBeLessThan(100e6);
    await expectRefused(early, 403, 'CFN_CHALLENGE_INVALID');
    expect((await release(await fresh())).status).toBe(200);
  }, 120_000);

  test('more connections than are taken: those over are closed, and the service goes on', async () => {
    const { hostname, port } = new URL(process_.url);
    const sockets: Socket[] = [];
    let closed = 0;
    for (let i = 0; i < CONNECTIONS_MAX + 100; i++)
      sockets.push(
        connect(Number(port), hostname)
          .on('close', () => closed++)
          .on('error', () => undefined)
          .resume(),
      );
    await expect.poll(() => closed, { timeout: 20_000 }).toBeGreaterThanOrEqual(100);
    for (const socket of sockets) socket.destroy();
    await expect.poll(async () => (await release(await fresh())).status, { timeout: 20_000 }).toBe(200);
  }, 60_000);

  test('a challenge a second time', async () => {
    const asked = await fresh();
    expect((await release(asked)).status).toBe(200);
    await expectRefused(asked, 403, 'CFN_CHALLENGE_INVALID');
  });

  test('a challenge of another KMS, and evidence made for one', async () => {
    const other = await startService('other');
    try {
      const foreign = await releaseRequest(reach(other, 'other'), worker, use);
      await expectRefused(foreign, 403, 'CFN_CHALLENGE_INVALID');
      await expectRefused({ ...(await fresh()), evidence: foreign.evidence }, 403, 'CFN_NONCE_MISMATCH');
    } finally {
      other.child.kill('SIGKILL');
    }
  });

  test('evidence older than a challenge lasts', async () => {
    const asked = await fresh();
    setClock(CHALLENGE_MS + 1000);
    await expectRefused(asked, 403, 'CFN_CHALLENGE_INVALID');
    await expectRefused({ ...(await fresh()), evidence: asked.evidence }, 403, 'CFN_NONCE_MISMATCH');
  });

  test('evidence of worker keys that are too old', async () => {
    setClock(3 * 3_600_000);
    await expectRefused(await fresh(), 403, 'CFN_WORKER_KEYS_EXPIRED');
  });

  test('a wrapping key that the evidence does not bind', async () => {
    const thief = await startWorker(kms);
    await expectRefused({ ...(await fresh()), wrappingKey: thief.wrappingKey }, 403, 'CFN_NONCE_MISMATCH');
  });

  test('a grant for another version, author or model', async () => {
    await expectRefused(await fresh(await signFunction({ vars: { A: '1' } }, author)), 403, 'CFN_GRANT_MISSING');
    await expectRefused(await fresh(await signFunction({ models: [] }, author)), 403, 'CFN_MODEL_UNDECLARED');
    await expectRefused({ ...(await fresh()), model: 'e'.repeat(64) }, 403, 'CFN_NONCE_MISMATCH');
  });

  test('a namespace other than that of the token', async () => {
    const mallory = await addOwner(kms, 'mallory', 'mallory/m@1');
    const own = await kms.send('GET', '/v1/models', undefined, mallory.token);
    expect(own.body['models']).toMatchObject([{ model: 'mallory/m@1' }]);
    const calls: [string, string, unknown, string][] = [
      [
        'PUT',
        `/v1/models/${'e'.repeat(64)}`,
        { model: 'acme/m@1', sealedKey: { enc: 'A'.repeat(43), ciphertext: 'AA' } },
        'CFN_TOKEN_SCOPE',
      ],
      ['PUT', `/v1/models/${'e'.repeat(64)}/grants`, grantOf(kms), 'CFN_MODEL_NOT_FOUND'],
      ['GET', '/v1/owners', undefined, 'CFN_TOKEN_SCOPE'],
    ];
    for (const [method, path, body, code] of calls)
      expect((await kms.send(method, path, body, mallory.token)).body.code).toBe(code);
    // Her grant is for her record of the same digest, and does nothing for acme's.
    const version = (await signFunction({ vars: { A: '2' } }, author)).version;
    expect(
      (await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { version }), mallory.token)).status,
    ).toBe(200);
    await expectRefused(await fresh(await signFunction({ vars: { A: '2' } }, author)), 403, 'CFN_GRANT_MISSING');
  });

  test('bodies that are none', async () => {
    await expectRefused({ ...(await fresh()), evidence: { quote: 'AAAA' } }, 422, 'CFN_EVIDENCE_MALFORMED');
    await expectRefused({ ...(await fresh()), extra: 1 }, 400, 'CFN_INPUT_INVALID');
    await expectRefused({ ...(await fresh()), challenge: randomBytes(32).toString('hex') }, 400, 'CFN_INPUT_INVALID');
    await expectRefused([], 400, 'CFN_INPUT_INVALID');
  });
});

/** Resident memory of the service. */
function residentBytes(): number {
  const pages = readFileSync(`/proc/${process_.child.pid}/statm`, 'utf8').split(' ')[1];
  return Number(pages) * 4096;
}
