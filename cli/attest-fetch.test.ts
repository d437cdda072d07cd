import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { intelRoutes, type IntelRoute } from '../attestation/testing/intel-service.testkit.ts';
import { NO_ENDORSEMENTS, NO_WORKER_KEYS, toBase64url } from '../proto/index.ts';
import { run } from './run.ts';
import { recordingContext } from './testkit.ts';

const vectors = fileURLToPath(new URL('../attestation/vectors/', import.meta.url));
const TDX_QUOTE = `${vectors}tdx/quotes/v4-phala-b0c06f.bin`;
const SNP_REPORT = `${vectors}snp/reports/milan-v2-trustee.bin`;
const AT = ['--now', '2025-06-25T00:00:00Z'];

/** Intel's and AMD's services on the loopback interface, which answer from the recordings. */
let routes: Record<string, IntelRoute>;
let respond: ((response: ServerResponse) => void) | undefined;
const server = createServer((request, response) => {
  const route = routes[request.url ?? ''];
  if (respond !== undefined) respond(response);
  else if (route === undefined) response.writeHead(404).end();
  else response.writeHead(200, route.headers ?? {}).end(route.body);
});
let url: string;
let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-fetch-'));
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await rm(cwd, { recursive: true });
});
beforeEach(() => {
  respond = undefined;
  const snp = (name: string): IntelRoute => ({ body: readFileSync(`${vectors}snp/${name}`) });
  const chip = readFileSync(SNP_REPORT).subarray(0x1a0, 0x1e0).toString('hex');
  routes = {
    ...intelRoutes(),
    '/vcek/v1/Milan/cert_chain': snp('chains/ask_ark_milan.pem'),
    [`/vcek/v1/Milan/${chip}?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115`]: snp('certs/milan-v2-trustee.vcek.der'),
    '/vcek/v1/Milan/crl': snp('crls/milan.crl.der'),
  };
});

interface Report {
  readonly inputs: string[];
  readonly findings: { check: string; outcome: string; reason?: string }[];
}
async function verify(
  file: string,
  ...flags: string[]
): Promise<{ code: number; stderr: string; report: () => Report }> {
  const { context, written } = recordingContext({ cwd });
  const code = await run(['attest', 'verify', file, '--policy', 'cpu-only', '--json', ...AT, ...flags], {
    ...context,
    fetch,
  });
  return { code, stderr: written.stderr, report: () => JSON.parse(written.stdout) as Report };
}
const failed = ({ findings }: Report): string[] => findings.flatMap(({ reason }) => reason ?? []);

describe('cfn attest verify with --pccs', () => {
  test('fetches what a bare quote lacks', async () => {
    expect(failed((await verify(TDX_QUOTE)).report())).toContain('collateral/missing');
    const { report } = await verify(TDX_QUOTE, '--pccs', url);
    expect(report().inputs).toEqual(['tdx-quote', 'intel-collateral']);
    expect(new Set(failed(report()))).toEqual(new Set(['policy/measurement'])); // the policy names none
  });

  test('puts it into an evidence document', async () => {
    const document = join(cwd, 'evidence.json');
    const evidence = {
      format: 'cfn/evidence/v1',
      tee: 'tdx',
      nonce: toBase64url(new Uint8Array(32)),
      workerKeys: toBase64url(NO_WORKER_KEYS),
      quote: toBase64url(readFileSync(TDX_QUOTE)),
      gpus: [],
      endorsements: NO_ENDORSEMENTS,
    };
    await writeFile(document, JSON.stringify(evidence));
    expect(failed((await verify(document)).report())).toContain('collateral/missing');
    const { report } = await verify(document, '--pccs', url);
    expect(failed(report())).not.toContain('collateral/missing');
    expect(report().findings).toContainEqual(
      expect.objectContaining({ check: 'TCB info: signature and content', outcome: 'passed' }),
    );
  });

  test('refuses with 4 what Intel did not sign', async () => {
    const path = '/tdx/certification/v4/qe/identity';
    routes[path] = { ...(routes[path] as IntelRoute), body: String(routes[path]?.body).replace('"TD_QE"', '"TD_QX"') };
    const { code, stderr } = await verify(TDX_QUOTE, '--pccs', url);
    expect({ code, stderr }).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('fetched collateral') as string,
    });
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['fails', (response) => void response.writeHead(500).end()],
    ['says too much', (response) => void response.end(Buffer.alloc(2 * 1024 * 1024))],
    ['says nonsense', (response) => void response.end('<html>')],
    ['hangs up', (response) => void response.destroy()],
  ])('ends with 3 when the service %s', async (_name, answer) => {
    respond = answer;
    for (const flag of ['--pccs', '--kds'])
      expect(await verify(flag === '--kds' ? SNP_REPORT : TDX_QUOTE, flag, url)).toMatchObject({
        code: 3,
        stderr: expect.stringContaining('CFN_VENDOR_UNREACHABLE') as string,
      });
  });

  test.each(['ftp://host', 'host:1', 'http://user@host', 'http://host?a=b'])('takes no address %s', async (address) => {
    expect(await verify(TDX_QUOTE, '--pccs', address)).toMatchObject({ code: 2 });
  });
});

test('--kds fetches what a bare SEV-SNP report lacks', async () => {
  const policy = join(cwd, 'snp.toml');
  await writeFile(
    policy,
    readFileSync(new URL('../attestation/policies/production-snp-h100.toml', import.meta.url), 'utf8'),
  );
  const before = await verify(SNP_REPORT, '--policy', policy);
  expect(before.report().findings).toContainEqual(
    expect.objectContaining({ check: 'endorsement certificates', reason: 'collateral/missing' }),
  );
  const after = (await verify(SNP_REPORT, '--policy', policy, '--kds', url)).report();
  for (const check of ['certificate chain', 'certificate dates', 'revocation', 'report signature'])
    expect(after.findings).toContainEqual(expect.objectContaining({ check, outcome: 'passed' }));
});
