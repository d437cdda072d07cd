import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, generateKeyPair } from 'jose';
import { openSimulatedPlatform, simulatedAttester, simulatedPolicy } from '../../attestation/insecure/index.ts';
import { startService } from '../../deploy/service-process.ts';
import {
  dataKeyInfo,
  DEFAULT_LIMITS,
  encodeWorkerKeys,
  generateSealingKeyPair,
  kmsNonce,
  openSealed,
  releaseReplySchema,
  sealTo,
  signManifest,
  wrappedKeyInfo,
  type ReleaseRequest,
} from '../../proto/index.ts';
import { median } from '../measure.ts';
import type { Row } from '../row.ts';

/** Releases asked for at once: what the service takes. */
const AT_ONCE = 16;
const ROUNDS = 5;
const RELEASES = 400;
const SEQUENTIAL = 100;
const CLOCK_TICKS_PER_SECOND = 100; // USER_HZ of Linux
const MRTD = new Uint8Array(48).fill(0x4d);
const MODEL = 'acme/model@1';
const digest = 'd'.repeat(64);

/** Key releases by the real service, over HTTP, with a SIMULATED quote and GPU report in each, all appraised. */
export async function releases(): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'cfn-bench-kms-'));
  const bench = await start(folder);
  try {
    for (let i = 0; i < 2; i++) await burst(bench); // a service runs for days
    const sequential: number[] = [];
    for (let i = 0; i < SEQUENTIAL; i++) sequential.push(await oneMs(bench));
    const bursts: { perSecond: number; perCpuSecond: number }[] = [];
    for (let i = 0; i < ROUNDS; i++) bursts.push(await burst(bench));
    const perCpu = bursts.map(({ perCpuSecond }) => perCpuSecond);
    return [
      {
        row: 'key release, challenge to unwrapped key, without making the quote',
        unit: 'ms',
        ours: median(sequential),
        spread: [Math.min(...sequential), Math.max(...sequential)],
        goal: '≤ 15 ms',
        met: median(sequential) <= 15,
      },
      {
        row: 'key releases, each durable and audited, for each second of the KMS on a core',
        unit: '1/s',
        ours: median(perCpu),
        spread: [Math.min(...perCpu), Math.max(...perCpu)],
        goal: '≥ 500 per core',
        met: median(perCpu) >= 500,
      },
      {
        row: 'key releases as they came, with the load made on the same machine',
        unit: '1/s',
        ours: median(bursts.map(({ perSecond }) => perSecond)),
        goal: 'told, not demanded',
        met: true,
      },
    ];
  } finally {
    await bench.stop();
    rmSync(folder, { recursive: true });
  }
}

type Bench = Awaited<ReturnType<typeof start>>;

async function start(folder: string) {
  const platform = await openSimulatedPlatform(join(folder, 'platform'));
  const policy = join(folder, 'policy.json');
  writeFileSync(policy, JSON.stringify(await simulatedPolicy(platform, { mrtd: MRTD })));
  const kms = await startService<{ url: string; publicKey: string }>({
    name: 'kms',
    entry: new URL('../../kms/main.ts', import.meta.url),
    args: [`--state=${join(folder, 'state')}`, `--policy=${policy}`],
    env: {},
    onLog: () => undefined,
  });
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const call = (method: string, path: string, body?: unknown, token = ''): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const headers = token === '' ? {} : { authorization: `Bearer ${token}` };
      const sent = httpRequest(new URL(path, kms.ready.url), { method, agent, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () =>
          (response.statusCode ?? 500) < 300 ? resolve(JSON.parse(text)) : reject(new Error(text)),
        );
      });
      sent.on('error', reject).end(body === undefined ? '' : JSON.stringify(body));
    });
  const admin = readFileSync(join(folder, 'state/admin.token'), 'utf8');
  const { token } = (await call('POST', '/v1/owners', { name: 'acme' }, admin)) as { token: string };
  const quotas = { models: 10, grants: 10, leases: 1_000_000, releasesPerMinute: 10_000_000 };
  await call('PUT', '/v1/owners/acme/quotas', quotas, admin);
  const sealedKey = await sealTo(kms.ready.publicKey, randomBytes(32), dataKeyInfo(digest, MODEL));
  await call('PUT', `/v1/models/${digest}`, { model: MODEL, sealedKey }, token);
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const grant = { tenant: 'tenant', function: 'ocr', leaseMs: 600_000, until };
  await call('PUT', `/v1/models/${digest}/grants`, grant, token);

  const receipt = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
  const workerKeys = encodeWorkerKeys({
    format: 'cfn/worker-keys/v1',
    tls: { spki: randomBytes(32).toString('hex') },
    ohttp: { config: 'AAAA' },
    receipt: { publicKey: receipt.x ?? '' },
    notAfter: new Date(Date.now() + 7_200_000).toISOString(),
  });
  const attester = simulatedAttester(platform, { mrtd: MRTD });
  const author = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  const use = await signManifest(
    {
      format: 'cfn/function/v1',
      tenant: 'tenant',
      name: 'ocr',
      compatibilityDate: '2026-11-01',
      code: { digest: 'c'.repeat(64), bytes: 10 },
      models: [{ binding: 'M', model: MODEL, digest }],
      vars: {},
      limits: DEFAULT_LIMITS,
      egress: { allow: [] },
      caller: { plaintext: false, logs: 'none' },
    },
    author.privateKey,
    await exportJWK(author.publicKey),
  );
  const wrapping = await generateSealingKeyPair();
  return {
    challenge: async () => ((await call('POST', '/v1/challenge')) as { challenge: string }).challenge,
    async request(challenge: string): Promise<ReleaseRequest> {
      const evidence = await attester.collect(
        await kmsNonce(challenge, wrapping.publicKey, digest, use.jws),
        workerKeys,
      );
      return { challenge, model: digest, functionManifest: use.jws, wrappingKey: wrapping.publicKey, evidence };
    },
    async release(request: ReleaseRequest): Promise<void> {
      const { wrappedKey } = releaseReplySchema.parse(await call('POST', '/v1/release', request));
      if (wrappedKey === undefined) throw new Error('no key was released');
      await openSealed(wrapping.privateKey, wrappedKey, wrappedKeyInfo(digest, request.challenge));
    },
    cpuSeconds: () => cpuSeconds(kms.pid),
    async stop() {
      agent.destroy();
      await kms.stop();
    },
  };
}

/** One release, the making of the evidence left out. */
async function oneMs(bench: Bench): Promise<number> {
  const start = performance.now();
  const given = await bench.challenge();
  const challengedMs = performance.now() - start;
  const asked = await bench.request(given);
  const again = performance.now();
  await bench.release(asked);
  return challengedMs + performance.now() - again;
}

/** Many at once; evidence is made before the clock starts. */
async function burst(bench: Bench): Promise<{ perSecond: number; perCpuSecond: number }> {
  const asked: ReleaseRequest[] = [];
  for (let i = 0; i < RELEASES; i++) asked.push(await bench.request(await bench.challenge()));
  const [cpuBefore, before] = [bench.cpuSeconds(), performance.now()];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let one = asked[next++]; one !== undefined; one = asked[next++]) await bench.release(one);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return {
    perSecond: (RELEASES * 1000) / (performance.now() - before),
    perCpuSecond: RELEASES / (bench.cpuSeconds() - cpuBefore),
  };
}

/** Processor time that a process has used, of all its threads. */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}
