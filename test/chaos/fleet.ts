import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSimulatedPlatform, simulatedPolicy } from '../../attestation/insecure/index.ts';
import type { AppraisalPolicy } from '../../attestation/verifier/index.ts';
import { startService, type ServiceProcess } from '../../deploy/service-process.ts';
import { BUNDLE, MRTD, signedFunction } from '../../gateway/testkit.ts';
import { toBase64url } from '../../proto/index.ts';
import { layWire, type Wire } from './wire.ts';

/** How long a worker stays admitted after it was challenged. */
export const LEASE_MS = 4_000;
/** What a request may take by its manifest. */
export const WALL_MS = 4_000;

export interface FleetWorker {
  readonly name: string;
  readonly workerId: string;
  readonly process: ServiceProcess<{ address: string; workerId: string }>;
  /** Between the gateways and it. */
  readonly wire: Wire;
  /** Requests that came to it, by its own account, since a moment. */
  reached(sinceMs?: number): readonly { readonly path: string; readonly at: number }[];
  /** From now on its evidence is altered, or not any more. */
  failChallenges(failing: boolean): void;
}

export interface FleetGateway {
  /** Name of its folder. */
  readonly state: string;
  readonly url: string;
  readonly adminUrl: string;
  readonly process: ServiceProcess<unknown>;
}

/** Gateways and workers as processes, on one machine, with one function `acme/echo` that answers with the digest of its body. */
export interface Fleet extends AsyncDisposable {
  readonly policy: AppraisalPolicy;
  readonly folder: string;
  readonly version: string;
  readonly gateways: readonly FleetGateway[];
  readonly workers: readonly FleetWorker[];
  /** One more worker; admitted, unless a flag makes it one that cannot be. */
  addWorker(...flags: ('--foreign' | '--lying')[]): Promise<FleetWorker>;
  /** Starts a gateway anew on the state of one that has ended, at the same port. */
  restart(gateway: FleetGateway): Promise<FleetGateway>;
  control(method: string, path: string, body?: unknown): Promise<Response>;
}

/** @param options with `redisUrl`, the gateways share it, and have nothing else in common but the secret of tokens */
export async function startFleet(
  options: { readonly workers?: number; readonly gateways?: number; readonly redisUrl?: string } = {},
): Promise<Fleet> {
  const { workers: workerCount = 2, gateways: gatewayCount = 1, redisUrl } = options;
  const folder = mkdtempSync(join(tmpdir(), 'cfn-chaos-'));
  const at = (name: string): string => join(folder, name);
  const platform = await openSimulatedPlatform(at('platform'));
  const policy = await simulatedPolicy(platform, { mrtd: MRTD });
  writeFileSync(at('policy.json'), JSON.stringify(policy), { mode: 0o600 });
  const started: ServiceProcess<unknown>[] = [];
  const gateways: FleetGateway[] = [];
  const workers: FleetWorker[] = [];
  const wires: Wire[] = [];
  const operator = (): string => readFileSync(at('gateway-0/operator.token'), 'utf8').trim();
  const certificates = at('gateways.crt');

  async function startGateway(state: string, port = 0): Promise<FleetGateway> {
    const process_ = await startService<{ url: string; admin: string }>({
      name: 'gateway',
      entry: new URL('../../gateway/main.ts', import.meta.url),
      args: [
        `--state=${at(state)}`,
        `--listen=127.0.0.1:${port}`,
        `--policy=${at('policy.json')}`,
        `--lease=${LEASE_MS / 1000}`,
      ],
      ...(redisUrl === undefined ? {} : { env: { CFN_REDIS_URL: redisUrl } }),
    });
    started.push(process_);
    return { state, url: process_.ready.url, adminUrl: process_.ready.admin, process: process_ };
  }

  const fleet: Fleet = {
    policy,
    folder,
    version: '',
    gateways,
    workers,
    async restart(gateway) {
      const again = await startGateway(gateway.state, Number(new URL(gateway.url).port));
      gateways[gateways.indexOf(gateway)] = again;
      return again;
    },
    async addWorker(...flags) {
      const name = `worker-${workers.length}`;
      const log = at(`${name}.jsonl`);
      const failing = at(`${name}.failing`);
      const process_ = await startService<{ address: string; workerId: string }>({
        name,
        entry: new URL('worker-process.ts', import.meta.url),
        args: [
          `--platform=${at('platform')}`,
          `--certificate=${certificates}`,
          `--reached=${log}`,
          `--failing=${failing}`,
          ...flags,
        ],
      });
      started.push(process_);
      const wire = await layWire(process_.ready.address);
      wires.push(wire);
      const worker: FleetWorker = {
        name,
        wire,
        workerId: process_.ready.workerId,
        process: process_,
        reached(sinceMs = 0) {
          if (!existsSync(log)) return [];
          const lines = readFileSync(log, 'utf8').trim().split('\n');
          return lines.map((line) => JSON.parse(line) as { path: string; at: number }).filter((it) => it.at >= sinceMs);
        },
        failChallenges(now) {
          if (now) writeFileSync(failing, '');
          else rmSync(failing, { force: true });
        },
      };
      workers.push(worker);
      const answer = await fleet.control('POST', '/v1/workers', { address: wire.address });
      if (answer.ok === flags.includes('--foreign')) throw new Error(`admission of ${name} answered ${answer.status}`);
      // It would get the function when the others are busy; here each is to take its part.
      const versions = [{ version: fleet.version, percent: 100 }];
      const joins = fleet.version !== '' && flags.length === 0;
      if (joins) await fleet.control('POST', '/v1/functions/acme/echo/deployments', { versions });
      return worker;
    },
    control: (method, path, body) =>
      fetch(`${gateways[0]?.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${operator()}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    async [Symbol.asyncDispose]() {
      await Promise.all(
        started.map((it) => {
          it.kill('SIGCONT');
          return it.stop();
        }),
      );
      for (const wire of wires) wire.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };

  for (let i = 0; i < gatewayCount; i++) {
    if (i > 0) {
      mkdirSync(at(`gateway-${i}`), { mode: 0o700 });
      copyFileSync(at('gateway-0/token.secret'), at(`gateway-${i}/token.secret`));
    }
    gateways.push(await startGateway(`gateway-${i}`));
  }
  writeFileSync(certificates, gateways.map(({ state }) => readFileSync(at(`${state}/client.crt`), 'utf8')).join(''));
  for (let i = 0; i < workerCount; i++) await fleet.addWorker();
  await fleet.control('POST', '/v1/tenants', { name: 'acme' });
  const signed = await signedFunction({ limits: { cpuMs: 1000, wallMs: WALL_MS, memoryMb: 64, requestMb: 4 } });
  const path = '/v1/functions/acme/echo/versions';
  const answer = await fleet.control('POST', path, { manifest: signed.jws, bundle: toBase64url(BUNDLE) });
  if (answer.status !== 201) throw new Error(`deploy answered ${answer.status}: ${await answer.text()}`);
  return Object.assign(fleet, { version: signed.version });
}
