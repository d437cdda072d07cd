import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import {
  connect as tcpConnect,
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as tlsConnect, createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { exportJWK, generateKeyPair } from 'jose';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  openSimulatedPlatform,
  simulatedAttester,
  simulatedPolicy,
  type SimulatedPlatform,
} from '../attestation/insecure/index.ts';
import { openResultSigner, type AppraisalPolicy, type ResultSigner } from '../attestation/verifier/index.ts';
import { callerNonce, channelNonce, toBase64url, type Channel, type Evidence } from '../proto/index.ts';
import type { InvokeRequest, InvokeResponse } from '../proto/grpc.ts';
import { tlsSession } from '../proto/node.ts';
import { listenForSessions } from '../runtime/agent/session-listener.ts';
import { admission, type Admission } from './admission.ts';
import { makeClientCertificate, type ClientCertificate } from './client-certificate.ts';
import { memoryRegistry, type Registry } from './registry.ts';
import { workerConnector } from './worker-connection.ts';
import { throwawayWorker, type ThrowawayOptions, type ThrowawayWorker } from './worker.testkit.ts';

// INV-31, INV-32: the evidence of admission is of this very TLS session. The attackers here have more than they could get: the worker's
// TLS key and the gateway's, so that the keys alone would not stop them.

const mrtd = new Uint8Array(48).fill(1);
const now = (): Date => new Date();
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

let platform: SimulatedPlatform;
let policy: AppraisalPolicy;
let own: ClientCertificate;
let resultSigner: ResultSigner;
beforeAll(async () => {
  platform = await openSimulatedPlatform(mkdtempSync(join(tmpdir(), 'cfn-channel-')));
  policy = await simulatedPolicy(platform, { mrtd });
  const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  resultSigner = await openResultSigner(await exportJWK(privateKey));
  own = await makeClientCertificate(now(), random(8));
});

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanup.splice(0).toReversed()) await step();
});

function gate(certificate = own): { registry: Registry; admitting: Admission; outcomes: string[] } {
  const registry = memoryRegistry(() => performance.now());
  const outcomes: string[] = [];
  const admitting = admission({
    connect: workerConnector(certificate, now),
    policy,
    resultSigner,
    registry,
    store: { addEvidence: async () => {} },
    feeds: { follow: () => undefined, leave: () => undefined },
    leaseMs: 60_000,
    now,
    monotonicMs: () => performance.now(),
    randomBytes: random,
    log: () => {},
    onOutcome: (outcome) => outcomes.push(outcome),
  });
  cleanup.push(() => admitting.stop());
  return { registry, admitting, outcomes };
}

async function worker(options: Partial<ThrowawayOptions> = {}): Promise<ThrowawayWorker> {
  const made = await throwawayWorker({
    attester: simulatedAttester(platform, { mrtd }),
    gatewayCertificatePem: own.certificatePem,
    run: () => ({ status: 200, body: [] }),
    ...options,
  });
  cleanup.push(() => made.kill());
  return made;
}

const portOf = (address: string): number => Number(address.split(':')[1]);

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.push(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Ends TLS from the gateway with a key of its own choice, and speaks TLS to the worker as the gateway would. */
function manInTheMiddle(
  target: ThrowawayWorker,
  identity: { privateKeyPem: string; certificatePem: string },
): Promise<string> {
  const options: TlsOptions = {
    key: identity.privateKeyPem,
    cert: identity.certificatePem,
    ALPNProtocols: ['h2'],
    requestCert: true,
    rejectUnauthorized: false,
  };
  const server = createTlsServer(options, (victim) => {
    const onward = tlsConnect({
      port: portOf(target.address),
      key: own.privateKeyPem,
      cert: own.certificatePem,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
    });
    for (const [from, to] of [
      [victim, onward],
      [onward, victim],
    ] as const) {
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
      from.pipe(to);
    }
  });
  return listening(server);
}

test('a worker that floods the gateway with what it says of itself is read no faster', async () => {
  const { admitting } = gate();
  const real = await worker();
  await admitting.admit(real.address);
  let heard = 0;
  const startMs = performance.now();
  const watching = admitting.connection(real.workerId)?.watch(
    () => heard++,
    () => undefined,
  );
  await expect.poll(() => heard).toBe(1);
  for (let i = 1; i <= 2_000; i++) real.tell({ capacity: i });
  await expect.poll(() => heard).toBeGreaterThan(3);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(heard).toBeLessThan(2 + (performance.now() - startMs) / 45);
  watching?.stop();
});

test('a small answer does not wait for large ones before it, nor evidence for any answer', async () => {
  const { tls } = await worker();
  const [piece, pieces, calls] = [Buffer.alloc(64 * 1024), 32, 60];
  const identity = { ...tls, gatewayCertificatePem: own.certificatePem };
  const listener = await listenForSessions('127.0.0.1:0', {}, identity, () => ({
    invoke: (call: ServerDuplexStream<InvokeRequest, InvokeResponse>) =>
      call.once('data', ({ head }: InvokeRequest) => {
        for (let i = 0; i < (head?.requestId === 'large' ? pieces : 1); i++) call.write({ chunk: piece });
        call.end();
      }),
    metrics: (_: unknown, answer: (error: null, reply: object) => void) => answer(null, {}),
  }));
  cleanup.push(() => listener.kill());
  const connection = await workerConnector(own, now)(listener.address);
  cleanup.push(() => connection.close());
  let bytes = 0;
  const ask = (requestId: string): Promise<unknown> => {
    const call = connection.invoke(60_000);
    call.on('data', ({ chunk }: InvokeResponse) => (bytes += chunk?.length ?? 0));
    call.write({ head: { requestId, version: '', deadlineMs: 60_000 } });
    return once(call, 'end');
  };
  const large = Array.from({ length: calls }, () => ask('large'));
  await expect.poll(() => bytes).toBeGreaterThan(0);
  const before = async (it: Promise<unknown>): Promise<number> => it.then(() => bytes / piece.length);
  const [answered, told] = await Promise.all([before(ask('small')), before(connection.metrics())]);
  await Promise.all(large);
  expect(answered).toBeLessThan(0.5 * calls * pieces);
  expect(told).toBeLessThan(0.5 * calls * pieces);
});

test('INV-31 a man in the middle has another key, or, with a stolen one, another session', async () => {
  const real = await worker();
  const { registry, admitting } = gate();
  const other = await worker();
  await expect(admitting.admit(await manInTheMiddle(real, other.tls))).rejects.toMatchObject({
    code: 'CFN_NONCE_MISMATCH', // and with the nonce written over, see below
  });
  await expect(admitting.admit(await manInTheMiddle(real, real.tls))).rejects.toMatchObject({
    code: 'CFN_NONCE_MISMATCH',
  });
  expect(registry.live()).toEqual([]);
  expect(real.invocations).toEqual([]);
});

describe('INV-31 relayed evidence is refused:', () => {
  const refusedAs = async (address: string, code: string): Promise<void> => {
    const { registry, admitting } = gate();
    await expect(admitting.admit(address)).rejects.toMatchObject({ code });
    expect(registry.live()).toEqual([]);
  };
  /** What the real worker answers to a call of GetEvidence on a session of its own. */
  async function asked(real: ThrowawayWorker, nonce: Uint8Array, isAdmission: boolean): Promise<Evidence> {
    const connection = await workerConnector(own, now)(real.address);
    cleanup.push(() => connection.close());
    return (await connection.evidence(nonce, isAdmission)).evidence;
  }

  test('the call is forwarded', async () => {
    const real = await worker();
    const relay = await worker({ tls: real.tls, evidenceFor: (nonce) => asked(real, nonce, true) });
    await refusedAs(relay.address, 'CFN_NONCE_MISMATCH');
  });

  test('and the nonce written over', async () => {
    const real = await worker();
    const relay = await worker({
      tls: real.tls,
      evidenceFor: async (nonce, channel) => ({
        ...(await asked(real, nonce, true)),
        nonce: toBase64url(await channelNonce(nonce, channel)),
      }),
    });
    await refusedAs(relay.address, 'CFN_REPORT_DATA_MISMATCH');
  });

  test('a caller asks for the nonce of the channel', async () => {
    const real = await worker();
    const relay = await worker({
      tls: real.tls,
      evidenceFor: async (nonce, channel) => asked(real, await channelNonce(nonce, channel), false),
    });
    await refusedAs(relay.address, 'CFN_NONCE_MISMATCH');
  });

  const elsewhere: [string, (channel: Channel) => Channel][] = [
    ['evidence of another session', (channel) => ({ ...channel, exporter: random(32) })],
    ['evidence without a session', (channel) => ({ ...channel, exporter: new Uint8Array() })],
    ['evidence for another gateway', (channel) => ({ ...channel, gatewayKey: random(32) })],
    ['evidence of another key', (channel) => ({ ...channel, workerKey: random(32) })],
    [
      'evidence with the roles swapped',
      (channel) => ({ ...channel, workerKey: channel.gatewayKey, gatewayKey: channel.workerKey }),
    ],
  ];
  test.each(elsewhere)('%s', async (_, change) => {
    const attester = simulatedAttester(platform, { mrtd });
    const bad: ThrowawayWorker = await worker({
      evidenceFor: async (nonce, channel) =>
        attester.collect(await channelNonce(nonce, change(channel)), bad.keysDocument),
    });
    await refusedAs(bad.address, 'CFN_NONCE_MISMATCH');
  });

  test('evidence for the bare nonce, as before there were channels', async () => {
    const attester = simulatedAttester(platform, { mrtd });
    const bad: ThrowawayWorker = await worker({
      evidenceFor: (nonce) => attester.collect(new Uint8Array(nonce), bad.keysDocument),
    });
    await refusedAs(bad.address, 'CFN_NONCE_MISMATCH');
  });

  test('but the same worker with its own evidence is admitted', async () => {
    const attester = simulatedAttester(platform, { mrtd });
    const good: ThrowawayWorker = await worker({
      evidenceFor: async (nonce, channel) => attester.collect(await channelNonce(nonce, channel), good.keysDocument),
    });
    const { admitting, registry } = gate();
    await admitting.admit(good.address);
    expect(registry.get(good.workerId)).toBeDefined();
  });

  test('a caller never gets the quote of a nonce as it is', async () => {
    const real = await worker();
    const nonce = random(32);
    const evidence = await asked(real, nonce, false);
    expect(evidence.nonce).toBe(toBase64url(await callerNonce(nonce)));
  });
});

/** Carries bytes, and can be cut, and led to another machine. */
async function wire(to: () => string): Promise<{ address: string; cut(): void; connections(): number }> {
  const open = new Set<Socket>();
  let connections = 0;
  const server = createTcpServer((near) => {
    connections++;
    const far = tcpConnect(portOf(to()), '127.0.0.1');
    for (const [from, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from);
      from.on('error', () => {});
      from.on('close', () => other.destroy());
      from.pipe(other);
    }
  });
  const address = await listening(server);
  const cut = (): void => {
    for (const socket of open) socket.destroy();
  };
  cleanup.push(cut);
  return { address, cut, connections: () => connections };
}

describe('INV-32 no call is made on a session that nobody attested to:', () => {
  test('a channel has one session, and does not connect again', async () => {
    const real = await worker();
    const line = await wire(() => real.address);
    const connection = await workerConnector(own, now)(line.address);
    cleanup.push(() => connection.close());
    await connection.evidence(random(32), true);
    line.cut();
    await connection.ended;
    expect(() => connection.invoke(1_000)).toThrow(expect.objectContaining({ code: 'CFN_WORKER_LOST' }));
    await expect(connection.evidence(random(32), true)).rejects.toMatchObject({ code: 'CFN_WORKER_LOST' });
    await expect(connection.load('', new Uint8Array(), [])).rejects.toMatchObject({ code: 'CFN_WORKER_LOST' });
    expect(line.connections()).toBe(1);
    expect(real.loads).toEqual([]);
  });

  test('a worker whose session ends is out at once, and is attested anew on the next one', async () => {
    const real = await worker();
    const line = await wire(() => real.address);
    const { registry, admitting, outcomes } = gate();
    const first = await admitting.admit(line.address);
    line.cut();
    await expect.poll(() => registry.get(real.workerId) === first, { timeout: 10_000 }).toBe(false);
    await expect.poll(() => registry.get(real.workerId), { timeout: 10_000 }).toBeDefined();
    expect(registry.get(real.workerId)?.nonce).not.toBe(first.nonce);
    expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(2);
  });

  test('another machine that has the same TLS key gets nothing', async () => {
    const real = await worker();
    const impostor = await worker({
      tls: real.tls,
      attester: simulatedAttester(platform, { mrtd: new Uint8Array(48) }),
    });
    let target = real;
    const line = await wire(() => target.address);
    const { registry, admitting, outcomes } = gate();
    await admitting.admit(line.address);
    target = impostor;
    line.cut();
    await expect.poll(() => outcomes, { timeout: 10_000 }).toContain('CFN_MEASUREMENT_UNKNOWN');
    expect(registry.live()).toEqual([]);
    expect(admitting.connection(real.workerId)).toBeUndefined();
    expect([impostor.invocations, impostor.loads]).toEqual([[], []]);
  });
});

describe('INV-31 fails closed', () => {
  test('with TLS 1.2, on either side', async () => {
    const real = await worker();
    const options = { key: real.tls.privateKeyPem, cert: real.tls.certificatePem, maxVersion: 'TLSv1.2' } as const;
    const old = await listening(createTlsServer({ ...options, ALPNProtocols: ['h2'] }, () => {}));
    await expect(workerConnector(own, now)(old)).rejects.toMatchObject({ code: 'CFN_WORKER_UNAVAILABLE' });

    const client = tlsConnect({
      port: portOf(real.address),
      key: own.privateKeyPem,
      cert: own.certificatePem,
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
    });
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toMatch(/PROTOCOL_VERSION|ALERT/);
  });

  test('without a certificate of the gateway', async () => {
    const real = await worker();
    const client = tlsConnect({ port: portOf(real.address), rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    cleanup.push(() => client.destroy());
    // In TLS 1.3 the client hears of it after its own handshake.
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toMatch(/CERTIFICATE_REQUIRED|ECONNRESET/);
  });

  const session = (change: Partial<TLSSocket>): TLSSocket => {
    const certificate = { publicKey: { export: () => Buffer.from('key') } };
    return {
      getProtocol: () => 'TLSv1.3',
      getX509Certificate: () => certificate,
      getPeerX509Certificate: () => certificate,
      exportKeyingMaterial: () => Buffer.alloc(32),
      ...change,
    } as unknown as TLSSocket;
  };
  const bad: [string, Partial<TLSSocket>][] = [
    ['TLS 1.2', { getProtocol: () => 'TLSv1.2' }],
    ['a session that has ended', { getProtocol: () => null }],
    ['no certificate of the other side', { getPeerX509Certificate: () => undefined }],
    ['no certificate of its own', { getX509Certificate: () => undefined }],
    [
      'no exporter',
      {
        exportKeyingMaterial: () => {
          throw new Error('the handshake is not over');
        },
      },
    ],
  ];
  test('a whole session is taken', () => expect(tlsSession(session({})).exporter).toHaveLength(32));
  test.each(bad)('with %s', (_, change) => {
    expect(() => tlsSession(session(change))).toThrow(expect.objectContaining({ code: 'CFN_CHANNEL_MISMATCH' }));
  });
});
