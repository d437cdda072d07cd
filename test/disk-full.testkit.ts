import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBlobFolder } from '../gateway/blob-folder.ts';
import { startKmsProcess, type KmsProcess } from '../kms/kms-process.testkit.ts';
import { dataKeyInfo, sealTo } from '../proto/index.ts';

/** Runs on a disk of 8 MB, given as its folder; says as JSON what happened when it was full. `policy` is a file that a KMS takes. */
const [what, disk = '', policy = ''] = process.argv.slice(2);
console.log(JSON.stringify(await (what === 'blobs' ? blobs() : keyring())));
process.exit();

async function blobs(): Promise<object> {
  const store = await openBlobFolder(join(disk, 'blobs'), () => new Date());
  const codeOf = (work: Promise<void>): Promise<string> =>
    work.then(
      () => 'stored',
      (error: { code: string }) => error.code,
    );
  const [small, big] = [randomBytes(300_000), randomBytes(12_000_000)];
  const nameOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
  }
  const outcomes = [
    await codeOf(store.put(nameOf(small), pieces(small))),
    await codeOf(store.put(nameOf(big), pieces(big))),
    await codeOf(store.resume(nameOf(big), 'acme', 0, pieces(big))),
  ];
  const came = createHash('sha256');
  for await (const piece of (await store.get(nameOf(small)))?.stream() ?? []) came.update(piece);
  return {
    outcomes,
    whole: came.digest('hex') === nameOf(small),
    served: (await store.size(nameOf(big))) ?? null,
    begun: await store.begun(nameOf(big), 'acme'),
    left: readdirSync(join(disk, 'blobs', 'incoming')),
    after: await codeOf(store.put(nameOf(Buffer.from('x')), pieces(Buffer.from('x')))),
  };
}

async function keyring(): Promise<object> {
  mkdirSync(join(disk, 'state'), { mode: 0o700 });
  const flags = ['--state', join(disk, 'state'), '--policy', policy];
  const filler = join(disk, 'filler');
  writeFileSync(filler, randomBytes(5_000_000));
  let kms = await startKmsProcess(flags);
  const admin = readFileSync(join(disk, 'state', 'admin.token'), 'utf8');
  const { token } = (await (await call(kms, 'POST', '/v1/owners', admin, { name: 'acme' })).json()) as {
    token: string;
  };
  const quotas = { models: 10, grants: 100_000, leases: 1, releasesPerMinute: 1 };
  await call(kms, 'PUT', '/v1/owners/acme/quotas', admin, quotas);
  const digest = '1'.repeat(64);
  const sealedKey = await sealTo(kms.publicKey, randomBytes(32), dataKeyInfo(digest, 'acme/m@1'));
  await call(kms, 'PUT', `/v1/models/${digest}`, token, { model: 'acme/m@1', sealedKey });
  const path = `/v1/models/${digest}/grants`;
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const grant = (i: number): Promise<Response> =>
    call(kms, 'PUT', path, token, { tenant: `t${i}`, function: 'f', leaseMs: 1000, until });
  const granted = async (): Promise<string[]> =>
    ((await (await call(kms, 'GET', path, token)).json()) as { grants: { id: string }[] }).grants.map(({ id }) => id);

  const acknowledged: string[] = [];
  const refusals = new Set<string>();
  for (let i = 0; i < 3000 && refusals.size === 0; i++) {
    const answer = await grant(i);
    const { id, code } = (await answer.json()) as { id: string; code: string };
    if (answer.ok) acknowledged.push(id);
    else refusals.add(`${answer.status} ${code}`);
  }
  const readable = (await granted()).length === acknowledged.length;
  kms.child.kill('SIGKILL');
  rmSync(filler);
  kms = await startKmsProcess(flags);
  const kept = new Set(await granted());
  const outcome = {
    refusals: [...refusals],
    readable,
    some: acknowledged.length > 10,
    lost: acknowledged.filter((id) => !kept.has(id)).length,
    unasked: kept.size - acknowledged.length,
    after: (await grant(5000)).status,
  };
  kms.child.kill('SIGKILL');
  return outcome;
}

function call(kms: KmsProcess, method: string, path: string, token: string, body?: object): Promise<Response> {
  return fetch(`${kms.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
}
