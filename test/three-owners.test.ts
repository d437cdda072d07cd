import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startKmsProcess, type KmsProcess } from '../kms/kms-process.testkit.ts';
import { problemCode, startTestSystem, VAD_MODEL, type OwnerAtKms, type TestSystem } from './local-system.ts';

/** Three owners who do not know of one another, each with a KMS of their own; one operator, one worker. */
const OWNERS = ['ann', 'bob', 'cid'] as const;
type Owner = (typeof OWNERS)[number];
const LEASE_MS = 4_000;

let folder: string;
let system: TestSystem;
const kms = {} as Record<Owner, KmsProcess & OwnerAtKms>;
const digests = {} as Record<Owner, string>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-owners-'));
  system = await startTestSystem();
  for (const owner of OWNERS) {
    kms[owner] = await startOwner(owner);
    digests[owner] = await system.push(`${owner}/m@1`, VAD_MODEL, kms[owner]);
  }
}, 60_000);
afterAll(async () => {
  for (const owner of OWNERS) kms[owner]?.child.kill('SIGKILL');
  await system.stop();
  rmSync(folder, { recursive: true });
});

async function startOwner(owner: Owner): Promise<KmsProcess & OwnerAtKms> {
  const state = join(folder, owner);
  const process_ = await startKmsProcess(['--state', state, '--policy', system.local.config.policy]);
  const authorization = `Bearer ${readFileSync(join(state, 'admin.token'), 'utf8')}`;
  const init = { method: 'POST', headers: { authorization }, body: JSON.stringify({ name: owner }) };
  const { token } = (await (await fetch(`${process_.url}/v1/owners`, init)).json()) as { token: string };
  return { ...process_, token };
}
async function deploy(name: string, owners: readonly Owner[], leaseMs = LEASE_MS): Promise<void> {
  for (const owner of owners) await system.grant(digests[owner], `demo/${name}`, leaseMs, {}, kms[owner]);
  const models = owners.map((owner) => ({
    binding: owner.toUpperCase(),
    model: `${owner}/m@1`,
    digest: digests[owner],
  }));
  const source = `export default { async fetch(request, env) {
    const names = ${JSON.stringify(models.map(({ binding }) => binding))};
    return Response.json(names.map((name) => env[name].outputs.length));
  } }`;
  await system.deploy(name, source, { models });
}
const codeOf = async (name: string): Promise<string> => {
  const response = await system.call(name);
  if (!response.ok) return problemCode(response);
  await response.arrayBuffer();
  return 'ok';
};
async function leasesAt(owner: Owner): Promise<{ live: boolean; function: string; endsAt: string }[]> {
  const headers = { authorization: `Bearer ${kms[owner].token}` };
  return (
    (await (await fetch(`${kms[owner].url}/v1/leases`, { headers })).json()) as {
      leases: { live: boolean; function: string; endsAt: string }[];
    }
  ).leases;
}

/** @param name of the function; left out: all grants */
async function removeGrant(owner: Owner, digest: string, name?: string): Promise<void> {
  const headers = { authorization: `Bearer ${kms[owner].token}` };
  const grantsUrl = `${kms[owner].url}/v1/models/${digest}/grants`;
  const { grants } = (await (await fetch(grantsUrl, { headers })).json()) as {
    grants: { id: string; function: string }[];
  };
  for (const { id } of grants.filter((grant) => name === undefined || grant.function === name))
    expect((await fetch(`${grantsUrl}/${id}`, { method: 'DELETE', headers })).status).toBe(200);
}

/** Answers as a KMS, but for what `forge` makes of it. */
async function impostor(
  of: string,
  forge: (path: string, status: number, text: string) => { status: number; text: string },
): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    void (async () => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      const path = request.url ?? '';
      const init = pieces.length === 0 ? {} : { body: Buffer.concat(pieces) };
      const answer = await fetch(`${of}${path}`, { method: request.method ?? 'GET', ...init });
      const forged = forge(path, answer.status, path.endsWith('/events') ? '' : await answer.text());
      const proof = answer.headers.get('cfn-proof');
      response.writeHead(forged.status, {
        'content-type': 'application/json',
        ...(proof !== null && { 'cfn-proof': proof }),
      });
      response.end(forged.text);
    })().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

describe('a worker that serves models of three owners talks to three KMSs', () => {
  test('one function, three models, three leases, each renewed at its own KMS', async () => {
    await deploy('all', OWNERS);
    expect(await codeOf('all')).toBe('ok');
    await new Promise((resolve) => setTimeout(resolve, 1.5 * LEASE_MS));
    expect(await codeOf('all')).toBe('ok');
    for (const owner of OWNERS) expect(await leasesAt(owner)).toMatchObject([{ live: true, function: 'all' }]);
  });

  test('one owner revokes: the functions that use that model end, the others go on', async () => {
    await deploy('two', ['ann', 'bob']);
    await deploy('cid-alone', ['cid']);
    for (const name of ['two', 'cid-alone']) expect(await codeOf(name)).toBe('ok');
    await removeGrant('bob', digests.bob, 'two');
    await expect.poll(() => codeOf('two'), { timeout: 10_000 }).toBe('CFN_GRANT_MISSING');
    for (const name of ['all', 'cid-alone']) expect(await codeOf(name)).toBe('ok');
    expect((await leasesAt('cid')).some((one) => one.live && one.function === 'cid-alone')).toBe(true);
  });

  test(
    'one KMS dies: what needs its owner ends with the lease, the others are renewed',
    { timeout: 60_000 },
    async () => {
      kms.bob.child.kill('SIGKILL');
      await expect.poll(() => codeOf('all'), { timeout: 4 * LEASE_MS }).toBe('CFN_KMS_UNREACHABLE');
      await new Promise((resolve) => setTimeout(resolve, LEASE_MS));
      expect(await codeOf('cid-alone')).toBe('ok');
      await deploy('two-left', ['ann', 'cid']);
      expect(await codeOf('two-left')).toBe('ok');
    },
  );
});

describe('INV-25 no other KMS than the one that the manifest names', () => {
  async function deployAt(name: string, named: { url: string; publicKey: string }): Promise<string> {
    const digest = await system.push(`ann/${name}@1`, VAD_MODEL, { ...kms.ann, named });
    await system.grant(digest, `demo/${name}`, 3_000, {}, kms.ann);
    const models = [{ binding: 'M', model: `ann/${name}@1`, digest }];
    await system.deploy(name, 'export default { fetch: (request, env) => Response.json(env.M.outputs.length) }', {
      models,
    });
    return digest;
  }

  test('another KMS at that address, honest or not, is refused', async () => {
    await deployAt('elsewhere', { url: kms.ann.url, publicKey: kms.cid.publicKey });
    expect(await codeOf('elsewhere')).toBe('CFN_KMS_MISMATCH');
  });

  test('an answer that was changed on its way is refused', async () => {
    const { publicKey } = kms.ann;
    const longer = (path: string, status: number, text: string): { status: number; text: string } => ({
      status,
      text: path === '/v1/release' ? text.replace(/"leaseMs":\d+/, '"leaseMs":86000000') : text,
    });
    const { url, server } = await impostor(kms.ann.url, longer);
    try {
      await deployAt('longer', { url, publicKey });
      expect(await codeOf('longer')).toBe('CFN_KMS_MISMATCH');
    } finally {
      server.close();
    }
  });

  test('whoever carries the messages cannot renew what the owner revoked', { timeout: 60_000 }, async () => {
    let kept: { status: number; text: string } | undefined;
    let revoked = false;
    // Once the lease is revoked: the last good answers again, as if nothing had happened.
    const replay = (path: string, status: number, text: string): { status: number; text: string } => {
      if (path === '/v1/release' && status === 200) kept = { status, text };
      if (!revoked || path === '/v1/challenge') return { status, text };
      if (path === '/v1/release' && kept !== undefined) return kept;
      return { status: 200, text: JSON.stringify({ lease: path.split('/').at(-1), live: true, remainingMs: 3_000 }) };
    };
    const { url, server } = await impostor(kms.ann.url, replay);
    try {
      const digest = await deployAt('replayed', { url, publicKey: kms.ann.publicKey });
      expect(await codeOf('replayed')).toBe('ok');
      await expect.poll(() => kept?.text.includes('wrappedKey'), { timeout: 10_000 }).toBe(false); // renewed
      revoked = true;
      await removeGrant('ann', digest);
      await expect.poll(() => codeOf('replayed'), { timeout: 15_000 }).toBe('CFN_KMS_MISMATCH');
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});
