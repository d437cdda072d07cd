import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openSimulatedPlatform, simulatedPolicy } from '../attestation/insecure/index.ts';
import { CfnError, fromProblem } from '../proto/index.ts';
import { OVERWRITE_FREED } from '../runtime/index.ts';
import { measureWorker } from './measure-worker.ts';
import { startService, type ServiceProcess } from './service-process.ts';

/** The tenant that a local system starts with; it owns the models pushed there, too. */
const TENANT = 'demo';
const TOKEN_SECONDS = 30 * 24 * 60 * 60;

export interface LocalOptions {
  /** Everything is kept here: keys, stores, tokens (mode 0700). */
  readonly stateDir: string;
  /** Port of the gateway; 0 takes a free one. */
  readonly port?: number;
  readonly onProgress?: (step: string) => void;
  readonly onLog?: (service: string, line: string) => void;
  /** Shows what sandboxes and engines print; it can hold request data. */
  readonly childStderr?: boolean;
  /** Added to the environment of workers. */
  readonly workerEnv?: Readonly<Record<string, string>>;
  /** Added to the flags of workers. */
  readonly workerArgs?: readonly string[];
  /** Flags of the gateway beside those that are needed. */
  readonly gatewayArgs?: readonly string[];
}

/** What `cfn` reads to find this system: the content of `.cfn/config.json`. */
export interface LocalConfig {
  readonly gateway: string;
  readonly token: string;
  readonly tenant: string;
  readonly kms: string;
  readonly kmsToken: string;
  /** Path of the appraisal policy. It accepts this machine's SIMULATED platform and nothing else. */
  readonly policy: string;
}

export interface LocalSystem {
  readonly gatewayUrl: string;
  readonly adminUrl: string;
  readonly kmsUrl: string;
  readonly workerAddress: string;
  readonly config: LocalConfig;
  readonly configFile: string;
  readonly operatorToken: string;
  readonly gateway: ServiceProcess<GatewayReady>;
  readonly kms: ServiceProcess<KmsReady>;
  /** The worker now running; `startWorker` replaces it. */
  worker(): ServiceProcess<WorkerReady>;
  /** Starts one more simulated worker and has the gateway admit it. */
  startWorker(): Promise<ServiceProcess<WorkerReady>>;
  stop(): Promise<void>;
}

interface GatewayReady {
  readonly url: string;
  readonly admin: string;
}
interface KmsReady {
  readonly url: string;
}
interface WorkerReady {
  readonly address: string;
  readonly workerId: string;
  /** Which layers are around its sandboxes and engines, in one line. */
  readonly jail: string;
}

/** Starts KMS, gateway and one SIMULATED worker as processes on this machine, and makes a tenant to use them with. */
export async function startLocal(options: LocalOptions): Promise<LocalSystem> {
  const { stateDir, onProgress = () => undefined } = options;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(stateDir, name);
  const running: { stop(): Promise<void> }[] = [];
  const start = async <Ready>(
    name: string,
    entry: string,
    args: readonly string[],
    env: Record<string, string> = {},
  ): Promise<ServiceProcess<Ready>> => {
    const onLog = (line: string): void => options.onLog?.(name, line);
    const service = await startService<Ready>({ name, entry: new URL(entry, import.meta.url), args, env, onLog });
    running.unshift(service);
    return service;
  };
  const stop = async (): Promise<void> => {
    for (const service of running.splice(0)) await service.stop();
  };

  try {
    onProgress('making the simulated platform and the policy that accepts it');
    const policy = at('policy.json');
    const platform = await openSimulatedPlatform(at('platform'));
    writeFileSync(policy, JSON.stringify(await simulatedPolicy(platform, { mrtd: await measureWorker() }), null, 2), {
      mode: 0o600,
    });

    onProgress('starting KMS and gateway');
    const [kms, gateway] = await Promise.all([
      start<KmsReady>('kms', '../kms/main.ts', [
        `--state=${at('kms')}`,
        `--listen=127.0.0.1:${keptPort(at('kms.port'))}`,
        `--policy=${policy}`,
      ]),
      start<GatewayReady>('gateway', '../gateway/main.ts', [
        `--state=${at('gateway')}`,
        `--listen=127.0.0.1:${options.port ?? 0}`,
        `--policy=${policy}`,
        ...(options.gatewayArgs ?? []),
      ]),
    ]);
    const gatewayUrl = gateway.ready.url;
    const kmsUrl = kms.ready.url;
    writeFileSync(at('kms.port'), new URL(kmsUrl).port);
    const operatorToken = readFileSync(at('gateway/operator.token'), 'utf8').trim();
    const adminToken = readFileSync(at('kms/admin.token'), 'utf8').trim();

    let worker: ServiceProcess<WorkerReady> | undefined;
    const startWorker = async (): Promise<ServiceProcess<WorkerReady>> => {
      const started = await start<WorkerReady>(
        'worker',
        'simulated-worker.ts',
        [
          `--platform=${at('platform')}`,
          `--gateway-certificate=${at('gateway/client.crt')}`,
          `--blobs=${gatewayUrl}/v1/blobs`,
          `--blobs-token-file=${at('gateway/worker.token')}`,
          ...(options.childStderr === true ? ['--child-stderr'] : []),
          ...(options.workerArgs ?? []),
        ],
        { ...OVERWRITE_FREED, ...options.workerEnv }, // so that it need not start twice
      );
      await postJson(`${gatewayUrl}/v1/workers`, operatorToken, { address: started.ready.address });
      worker = started;
      return started;
    };
    onProgress('starting a simulated worker and having it admitted');
    const first = await startWorker();

    await postJson(`${gatewayUrl}/v1/tenants`, operatorToken, { name: TENANT }).catch(tolerateConflict);
    const { token } = (await postJson(`${gatewayUrl}/v1/tokens`, operatorToken, {
      tenant: TENANT,
      role: 'tenant',
      ttlSeconds: TOKEN_SECONDS,
    })) as { token: string };
    const kmsToken = await ownerToken(kmsUrl, adminToken, at('kms-owner.token'));
    const config: LocalConfig = { gateway: gatewayUrl, token, tenant: TENANT, kms: kmsUrl, kmsToken, policy };
    const configFile = at('config.json');
    writeFileSync(configFile, JSON.stringify(config, null, 2), { mode: 0o600 });
    return {
      gatewayUrl,
      adminUrl: gateway.ready.admin,
      kmsUrl,
      workerAddress: first.ready.address,
      config,
      configFile,
      operatorToken,
      gateway,
      kms,
      worker: () => worker ?? first,
      startWorker,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Models name the URL of their KMS: on a second start it must be where it was. */
function keptPort(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '0';
  }
}

/** The owner's token, made once and kept: the KMS stores only its digest. */
async function ownerToken(kmsUrl: string, adminToken: string, file: string): Promise<string> {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    const { token } = (await postJson(`${kmsUrl}/v1/owners`, adminToken, { name: TENANT })) as { token: string };
    writeFileSync(file, token, { mode: 0o600 });
    return token;
  }
}

async function postJson(url: string, token: string, body: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
  });
  const answer: unknown = await response.json();
  if (!response.ok) throw fromProblem(answer) ?? new CfnError('CFN_INTERNAL', `${url} answered ${response.status}`);
  return answer;
}

function tolerateConflict(error: unknown): void {
  if (!(error instanceof CfnError && error.code === 'CFN_CONFLICT')) throw error;
}
