import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openHouse, signedFunction, type House } from '../gateway/testkit.ts';
import type { ThrowawayWorker } from '../gateway/worker.testkit.ts';
import { verifyBatch } from '../proto/index.ts';
import { run } from './run.ts';
import { recordingContext, type Ended } from './testkit.ts';

/** Sessions with `cfn` on a ledger whose hour is over, against a gateway that says it is two hours later. */

const HOUR_MS = 3_600_000;
let first: House;
let house: House;
let worker: ThrowawayWorker;
let tenantToken: string;
let otherToken: string;
let id: string;
const cwd = mkdtempSync(join(tmpdir(), 'cfn-usage-'));

beforeAll(async () => {
  first = await openHouse();
  worker = await first.worker();
  const token = await first.tenant('acme');
  await first.deploy(token, await signedFunction());
  await first.call('POST', '/v1/workers', { token: first.operator, body: { address: worker.address } });
  for (const body of ['a', 'bb', 'ccc']) {
    const answer = await first.call('POST', '/f/acme/echo/', { body });
    await answer.text();
    id = answer.headers.get('cfn-request-id') ?? '';
  }
  await first.gateway.stop();
  const now = (): Date => new Date(Date.now() + 2 * HOUR_MS);
  house = await openHouse({ stateFolder: first.stateFolder, policy: first.policy, now });
  const issue = await house.call('POST', '/v1/tokens', {
    token: house.operator,
    body: { tenant: 'acme', role: 'tenant', ttlSeconds: 600 },
  });
  tenantToken = ((await issue.json()) as { token: string }).token;
  otherToken = await house.tenant('other');
  writeFileSync(join(cwd, 'policy.json'), JSON.stringify(first.policy));
  while (!house.logs.some((line) => line.includes('receipts.sealed'))) await sleep(50);
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});

const policy = join(cwd, 'policy.json');
function cfn(token: string, ...args: string[]): Promise<Ended> {
  return inProcess(args, { CFN_GATEWAY: house.gateway.url, CFN_TOKEN: token, CFN_POLICY: policy });
}
const withoutGateway = (...args: string[]): Promise<Ended> =>
  inProcess(args, { CFN_GATEWAY: 'http://127.0.0.1:1', CFN_POLICY: policy });
async function inProcess(args: readonly string[], env: Record<string, string>): Promise<Ended> {
  const { context, written } = recordingContext({ env, cwd, fetch, now: () => new Date() });
  return { code: await run(args, context), ...written };
}
async function code(run: Promise<Ended>): Promise<unknown> {
  const ended = await run;
  return [ended.code, ended.stderr === '' ? '' : (JSON.parse(ended.stderr) as { code: string }).code];
}
const sqlite = (sql: string): void => {
  const database = new DatabaseSync(join(first.stateFolder, 'gateway.sqlite'));
  database.exec(sql);
  database.close();
};

describe('cfn usage', () => {
  test('sums over receipts, as text, JSON and CSV', async () => {
    const text = await cfn(tenantToken, 'usage');
    expect(text.stdout).toMatch(/acme\/echo: 3 requests, 0 of them failed, 3\.000 ms CPU, .*bytes in/);
    const json = JSON.parse((await cfn(tenantToken, 'usage', '--by', 'tenant', '--json')).stdout) as object;
    expect(json).toMatchObject({ by: 'tenant', usage: [{ subject: 'acme', requests: 3, cpuMicroseconds: 3000 }] });
    const { stdout } = await cfn(house.operator, 'usage', '--by', 'function', '--csv');
    expect(stdout).toMatch(/^function,requests,.*\r\nacme\/echo,3,0,0,0,3000,\d+,\d+,0\r\n$/);
    const direct = await house.call('GET', '/v1/usage?format=csv', { token: house.operator });
    expect(await direct.text()).toBe(stdout);
  });

  test('of a period, and of nobody else', async () => {
    const tomorrow = new Date(Date.now() + 24 * HOUR_MS).toISOString().slice(0, 10);
    expect((await cfn(tenantToken, 'usage', '--from', tomorrow, '--csv')).stdout).not.toContain('acme');
    expect((await cfn(otherToken, 'usage', '--csv')).stdout).not.toContain('acme');
    expect(await code(cfn(tenantToken, 'usage', '--from', '2026-11-01T13:30', '--json'))).toEqual([
      2,
      'CFN_INPUT_INVALID',
    ]);
    expect(await code(cfn(tenantToken, 'usage', '--by', 'colour', '--json'))).toEqual([2, 'CFN_USAGE']);
  });
});

describe('cfn receipt fetch and verify', () => {
  test('INV-43 an archive verifies offline, with the gateway out of reach', async () => {
    expect(await cfn(tenantToken, 'receipt', 'fetch', id, '--out', 'kept.json')).toMatchObject({ code: 0 });
    const ended = await withoutGateway('receipt', 'verify', 'kept.json', '--offline', '--json');
    expect(ended.stderr).toBe('');
    const said = JSON.parse(ended.stdout) as { ledger: { size: number; signer: string }; notProven: string[] };
    expect(said).toMatchObject({ verified: true, receipt: { id }, ledger: { size: 3 } });
    expect(said.notProven.some((text) => text.includes('--ledger-key'))).toBe(true);
    const pinned = ['receipt', 'verify', 'kept.json', '--offline', '--json', '--ledger-key'];
    expect(await code(withoutGateway(...pinned, said.ledger.signer))).toEqual([0, '']);
    expect(await code(withoutGateway(...pinned, 'A'.repeat(43)))).toEqual([4, 'CFN_BATCH_INVALID']);
  });

  test.each([
    ['proof.index', (it: Kept) => (it.proof.index = (it.proof.index + 1) % 3), 'CFN_BATCH_INVALID'],
    ['proof.path', (it: Kept) => void it.proof.path.reverse().pop(), 'CFN_BATCH_INVALID'],
    ['proof.batch', (it: Kept) => (it.proof.batch = `${it.proof.batch.slice(0, -6)}AAAAAA`), 'CFN_BATCH_INVALID'],
    ['receipt', (it: Kept) => (it.receipt = `${it.receipt.slice(0, -6)}AAAAAA`), 'CFN_RECEIPT_INVALID'],
    [
      'evidence',
      (it: Kept) =>
        (it.evidence = it.evidence.replace(
          /"nonce":"./,
          (text) => `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`,
        )),
      'CFN_REPORT_DATA_MISMATCH',
    ],
    ['manifest', (it: Kept) => (it.manifest = it.receipt), 'CFN_MANIFEST_ALTERED'],
  ])('INV-43 an altered archive is refused: %s', async (_, alter, expected) => {
    const kept = JSON.parse(readFileSync(join(cwd, 'kept.json'), 'utf8')) as Kept;
    alter(kept);
    writeFileSync(join(cwd, 'altered.json'), JSON.stringify(kept));
    expect(await code(cfn(tenantToken, 'receipt', 'verify', 'altered.json', '--offline', '--json'))).toEqual([
      4,
      expected,
    ]);
  });

  test('a receipt alone cannot be verified offline', async () => {
    const receipt = await (await house.call('GET', `/.well-known/cfn/receipts/${id}`)).text();
    writeFileSync(join(cwd, 'alone.jws'), receipt);
    expect(await code(cfn(tenantToken, 'receipt', 'verify', 'alone.jws', '--offline', '--json'))).toEqual([
      2,
      'CFN_USAGE',
    ]);
    const proof = await (await house.call('GET', `/.well-known/cfn/receipts/${id}/proof`)).text();
    writeFileSync(join(cwd, 'proof.json'), proof);
    const ended = await cfn(tenantToken, 'receipt', 'verify', 'alone.jws', '--proof', 'proof.json');
    expect(ended.stdout).toContain('The ledger holds it: it is one of the 3 receipts');
  });
});

describe('cfn usage verify', () => {
  test('counts again, keeps a checkpoint, and tells no tenant the receipts of another', async () => {
    const own = await cfn(tenantToken, 'usage', 'verify', '--checkpoint', 'newest.jws', '--json');
    expect(own.stderr).toBe('');
    expect(JSON.parse(own.stdout)).toMatchObject({ verified: true, batches: 1, receipts: 3, leaves: 3 });
    expect((await verifyBatch(readFileSync(join(cwd, 'newest.jws'), 'utf8'))).batch.size).toBe(3);
    const foreign = await cfn(otherToken, 'usage', 'verify', '--json');
    expect(JSON.parse(foreign.stdout)).toMatchObject({ receipts: 0, leaves: 3 });
    const hour = (await verifyBatch(readFileSync(join(cwd, 'newest.jws'), 'utf8'))).batch.hour;
    const block = await house.call('GET', `/v1/batches/${hour}/blocks/0`, { token: otherToken });
    expect(Object.keys(((await block.json()) as { leaves: object[] }).leaves[0] ?? {})).toEqual(['leaf']);
  });

  test('INV-43 a sum that says more than the receipts is refused', async () => {
    sqlite('UPDATE function_usage SET cpu_us = cpu_us + 1');
    expect(await code(cfn(tenantToken, 'usage', 'verify', '--json'))).toEqual([4, 'CFN_BATCH_INVALID']);
    sqlite('UPDATE function_usage SET cpu_us = cpu_us - 1');
    expect(await code(cfn(tenantToken, 'usage', 'verify', '--json'))).toEqual([0, '']);
  });

  test('INV-43 a receipt that was dropped from a sealed hour is missed, and so is a ledger that was put back', async () => {
    sqlite(`CREATE TABLE aside AS SELECT * FROM receipts WHERE id = '${id}'; DELETE FROM receipts WHERE id = '${id}'`);
    expect(await code(cfn(tenantToken, 'usage', 'verify', '--json'))).toEqual([4, 'CFN_BATCH_INVALID']);
    sqlite('INSERT INTO receipts SELECT * FROM aside');
    writeFileSync(join(cwd, 'elsewhere.jws'), 'another batch');
    const run = cfn(tenantToken, 'usage', 'verify', '--checkpoint', 'elsewhere.jws', '--json');
    expect(await code(run)).toEqual([4, 'CFN_BATCH_INVALID']);
  });

  test('a checkpoint that cannot be read is not taken for none', async () => {
    expect(await code(cfn(tenantToken, 'usage', 'verify', '--checkpoint', '.', '--json'))).toEqual([2, 'CFN_USAGE']);
  });

  test('INV-43 receipts that are sealed and charged a second time are refused', async () => {
    sqlite(`INSERT INTO receipts SELECT lower(hex(randomblob(16))), hour + 1, worker, sequence, tenant, jws FROM receipts;
      INSERT INTO function_usage SELECT hour + 1, tenant, name, requests, failed, engine_calls, engine_us, cpu_us,
        request_bytes, response_bytes, egress_bytes FROM function_usage`);
    const now = (): Date => new Date(Date.now() + 4 * HOUR_MS);
    const later = await openHouse({ stateFolder: first.stateFolder, policy: first.policy, now });
    await expect
      .poll(() => later.logs.some((line) => line.includes('receipts.sealed')), { timeout: 10_000 })
      .toBe(true);
    const ended = inProcess(['usage', 'verify', '--json'], {
      CFN_GATEWAY: later.gateway.url,
      CFN_TOKEN: readFileSync(join(first.stateFolder, 'operator.token'), 'utf8'),
      CFN_POLICY: policy,
    });
    expect(await code(ended)).toEqual([4, 'CFN_BATCH_INVALID']);
    expect((await ended).stderr).toContain('twice');
    await later.gateway.stop();
  });
});

interface Kept {
  receipt: string;
  evidence: string;
  manifest: string;
  proof: { index: number; path: string[]; batch: string };
}
