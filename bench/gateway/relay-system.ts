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
  /** Of the first worker; it has the function. */
  readonly workerId: string;
  /** Wall and processor time of the gateway until all workers were admitted, in seconds. */
  readonly admission: { readonly wall: number; readonly processor: number };
  /** Seconds of processor time that the gateway has used so far, kernel included. */
  gatewaySeconds(): number;
}

/** A gateway, and workers that open nothing in a process of their own, and one function `acme/echo`. */
export async function openRelay(workers = 1): Promise<RelaySystem> {
  const folder = mkdtempSync(join(tmpdir(), 'cfn-relay-'));
  const at = (name: string): string => join(folder, name);
  const platform = await openSimulatedPlatform(at('platform'));
  writeFileSync(at('policy.json'), JSON.stringify(await simulatedPolicy(platform, { mrtd: MRTD })), { mode: 0o600 });
  const gateway = await startService<{ url: string }>({
    name: 'gateway',
    entry: new URL('../../gateway/main.ts', import.meta.url),
    args: [`--state=${at('gateway')}`, '--listen=127.0.0.1:0', `--policy=${at('policy.json')}`],
  });
  const stubs = await startService<{ addresses: string[] }>({
    name: 'stub workers',
    entry: new URL('stub-worker.ts', import.meta.url),
    args: [`--platform=${at('platform')}`, `--certificate=${at('gateway/client.crt')}`, `--count=${workers}`],
  });
  const { url } = gateway.ready;
  const operator = readFileSync(at('gateway/operator.token'), 'utf8').trim();
  const post = async (path: string, body: unknown): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${operator}` };
    const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  // proc_pid_stat(5): utime and stime are the 14th and 15th field, in ticks of 10 ms; the name before may hold spaces.
  const gatewaySeconds = (): number => {
    const fields = readFileSync(`/proc/${gateway.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const before = { wall: performance.now(), processor: gatewaySeconds() };
  const { addresses } = stubs.ready;
  const [{ workerId } = {}] = await inLanes(8, addresses, (address) => post('/v1/workers', { address }));
  const admission = {
    wall: (performance.now() - before.wall) / 1000,
    processor: gatewaySeconds() - before.processor,
  };
  await post('/v1/tenants', { name: 'acme' });
  const { jws } = await signedFunction({ limits: { cpuMs: 1000, wallMs: 60_000, memoryMb: 64, requestMb: 16 } });
  await post('/v1/functions/acme/echo/versions', { manifest: jws, bundle: toBase64url(BUNDLE) });
  return {
    url,
    gatewayPid: gateway.pid,
    workerId: String(workerId),
    admission,
    gatewaySeconds,
    async [Symbol.asyncDispose]() {
      await Promise.all([gateway.stop(), stubs.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function inLanes<T, R>(lanes: number, items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return results;
}
