import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { leaseEventSchema, sealTo, signStatement, type LeaseEvent, type ReleaseReply } from '../proto/index.ts';
import { answerKeyInfo, isProven } from '../proto/node.ts';
import { FEED_LINES_WAITING_MAX, FEEDS_MAX } from './limits.ts';
import {
  addOwner,
  digest,
  grantOf,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type TestKms,
  type TestWorker,
} from './test-kms.ts';

let kms: TestKms;
let worker: TestWorker;
let lease: string;
let token: string;
const answerKey = randomBytes(32);
beforeEach(async () => {
  kms = await startKms();
  worker = await startWorker(kms);
  ({ token } = await addOwner(kms));
  await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), token);
  const request = await releaseRequest(kms, worker, await signFunction());
  lease = ((await kms.send('POST', '/v1/release', request)).body as unknown as ReleaseReply).lease;
});

interface Change {
  readonly worker?: string;
  readonly key?: CryptoKey;
  readonly challenge?: string;
  readonly to?: string;
}
const takeChallenge = async (): Promise<string> => String((await kms.send('POST', '/v1/challenge')).body['challenge']);
async function statementOf(change: Change = {}): Promise<string> {
  const challenge = change.challenge ?? (await takeChallenge());
  const { publicKey } = kms.deps.sealingKey;
  const sealed = await sealTo(change.to ?? publicKey, answerKey, answerKeyInfo(challenge));
  const claims = { worker: change.worker ?? worker.id, challenge, answerKey: sealed };
  return signStatement('cfn-lease-events+jwt', claims, change.key ?? worker.receiptKey, kms.deps.now());
}
async function open(statement: string): Promise<Response> {
  return kms.app.request('/v1/leases/events', { method: 'POST', body: JSON.stringify({ statement }) });
}
const codeOf = async (response: Response): Promise<unknown> => ((await response.json()) as { code?: string }).code;

/** The events of a stream, each verified. */
async function* eventsOf(response: Response): AsyncGenerator<LeaseEvent> {
  for await (const bytes of response.body ?? [])
    for (const line of Buffer.from(bytes as Uint8Array)
      .toString()
      .trim()
      .split('\n')) {
      const [proof = '', json = ''] = line.split(' ');
      expect(isProven(answerKey, json, proof)).toBe(true);
      yield leaseEventSchema.parse(JSON.parse(json));
    }
}
async function firstWithLease(events: AsyncGenerator<LeaseEvent>): Promise<LeaseEvent | undefined> {
  for await (const event of events) if (event.lease !== undefined) return event;
  return undefined;
}

describe('a stream of lease events', () => {
  test('says at once that it is open, then what ends early, each line proven and counted', async () => {
    const events = eventsOf(await open(await statementOf()));
    expect((await events.next()).value).toEqual({ n: 0 });
    await kms.send(
      'PUT',
      `/v1/models/${digest}/grants`,
      {
        ...grantOf(kms),
        until: new Date(kms.deps.now().getTime() + 2_000).toISOString(),
      },
      token,
    );
    const { value } = await events.next();
    expect(value).toMatchObject({ n: 1, lease });
    expect((value as LeaseEvent).remainingMs).toBeLessThanOrEqual(2_000);
    await kms.send('DELETE', `/v1/leases/${lease}`, undefined, token);
    expect((await events.next()).value).toMatchObject({ n: 2, lease, remainingMs: 0 });
  });

  test('tells a worker of its own leases alone', async () => {
    const other = await startWorker(kms);
    await kms.send('POST', '/v1/release', await releaseRequest(kms, other, await signFunction()));
    const response = await open(await statementOf({ worker: other.id, key: other.receiptKey }));
    await kms.send('DELETE', `/v1/leases/${lease}`, undefined, token);
    kms.deps.feed.close();
    expect(await firstWithLease(eventsOf(response))).toBeUndefined();
  });

  test('goes on saying that the KMS is alive', async () => {
    const events = eventsOf(await open(await statementOf()));
    await events.next();
    expect((await events.next()).value).toEqual({ n: 1 });
    kms.deps.feed.close();
  });

  test('is refused to who holds no lease, or is not who they say, or asks again with the same words', async () => {
    const stranger = await startWorker(kms);
    const { id, receiptKey } = stranger;
    expect(await codeOf(await open(await statementOf({ worker: id, key: receiptKey })))).toBe('CFN_LEASE_ENDED');
    expect(await codeOf(await open(await statementOf({ key: receiptKey })))).toBe('CFN_RECEIPT_INVALID');
    expect(await codeOf(await open('not a statement'))).toBe('CFN_RECEIPT_INVALID');
    expect(await codeOf(await open(await worker.sayDropped(lease)))).toBe('CFN_RECEIPT_INVALID');
    const once = await statementOf();
    expect((await open(once)).status).toBe(200);
    expect(await codeOf(await open(once))).toBe('CFN_CHALLENGE_INVALID');
    const unknown = randomBytes(32).toString('base64url');
    expect(await codeOf(await open(await statementOf({ challenge: unknown })))).toBe('CFN_CHALLENGE_INVALID');
    await kms.send('DELETE', `/v1/leases/${lease}`, undefined, token);
    expect(await codeOf(await open(await statementOf()))).toBe('CFN_LEASE_ENDED');
  });

  test('INV-25 is refused where the answer key is sealed to another KMS', async () => {
    const { publicKey } = (await startKms()).deps.sealingKey;
    expect(await codeOf(await open(await statementOf({ to: publicKey })))).toBe('CFN_KMS_MISMATCH');
  });

  test('of one worker there are two, the newest; a third ends the first', async () => {
    const first = await open(await statementOf());
    await open(await statementOf());
    await open(await statementOf());
    expect(await firstWithLease(eventsOf(first))).toBeUndefined(); // it ended
  });

  test('ends when its worker does not read', async () => {
    const stuck = kms.deps.feed.open(worker.id, randomBytes(32));
    const told = { id: lease, worker: worker.id, endsAt: 0, revokedAt: 0 };
    for (let i = 0; i <= FEED_LINES_WAITING_MAX; i++) kms.deps.feed.tell(told);
    let lines = 0;
    for await (const _ of stuck) lines += 1;
    expect(lines).toBe(FEED_LINES_WAITING_MAX);
  });

  test('is refused beyond so many, until one ends', async () => {
    const streams = Array.from({ length: FEEDS_MAX }, (_, i) => kms.deps.feed.open(`w${i}`, randomBytes(32)));
    expect(await codeOf(await open(await statementOf()))).toBe('CFN_BUSY');
    await streams[0]?.cancel();
    expect((await open(await statementOf())).status).toBe(200);
    kms.deps.feed.close();
  });
});
