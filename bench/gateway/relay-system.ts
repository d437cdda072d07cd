import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSimulatedPlatform, simulatedPolicy } from '../../attestation/insecure/index.ts';
import { startService } from '../../deploy/service-process.ts';
import { BUNDLE, MRTD, signedFunction } from '../../gateway/testkit.ts';
import { toBase64url } from '../../proto/index.ts';

export interface RelaySystem extends AsyncDisposable {
  readonly url: string;
  readonly gatewayPid: number;
  readonly workerId: string;
  /** Seconds of processor time that the gateway has used so far, kernel included. */
  gatewaySeconds(): number;
}

/** A gateway and a worker that opens nothing, each a process, and one function `acme/echo`. */
export async function openRelay(): Promise<RelaySystem> {
  const folder = mkdtempSync(join(tmpdir(), 'cfn-relay-'));
  const at = (name: string): string => join(folder, name);
  const platform = await openSimulatedPlatform(at('platform'));
  writeFileSync(at('policy.json'), JSON.stringify(await simulatedPolicy(platform, { mrtd: MRTD })), { mode: 0o600 });
  const gateway = await startService<{ url: string }>({
    name: 'gateway',
    entry: new URL('../../gateway/main.ts', import.meta.url),
    args: [`--state=${at('gateway')}`, '--listen=127.0.0.1:0', `--policy=${at('policy.json')}`],
  });
  const worker = await startService<{ address: string }>({
    name: 'stub worker',
    entry: new URL('stub-worker.ts', import.meta.url),
    args: [`--platform=${at('platform')}`, `--certificate=${at('gateway/client.crt')}`],
  });
  const { url } = gateway.ready;
  const operator = readFileSync(at('gateway/operator.token'), 'utf8').trim();
  const post = async (path: string, body: unknown): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${operator}` };
    const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  const { workerId } = await post('/v1/workers', { address: worker.ready.address });
  await post('/v1/tenants', { name: 'acme' });
  const { jws } = await signedFunction({ limits: { cpuMs: 1000, wallMs: 60_000, memoryMb: 64, requestMb: 16 } });
  await post('/v1/functions/acme/echo/versions', { manifest: jws, bundle: toBase64url(BUNDLE) });
  return {
    url,
    gatewayPid: gateway.pid,
    workerId: String(workerId),
    gatewaySeconds() {
      // proc_pid_stat(5): utime and stime are the 14th and 15th field, in ticks of 10 ms; the name before may hold spaces.
      const fields = readFileSync(`/proc/${gateway.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return (Number(fields[11]) + Number(fields[12])) / 100;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([gateway.stop(), worker.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
