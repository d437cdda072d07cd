import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dataKeyInfo, sealTo, verifyAudit } from '../proto/index.ts';
import { startKmsProcess, type KmsProcess } from './kms-process.testkit.ts';
import { unwrapDataKey } from './namespace-key.ts';
import { openKeyring } from './open-keyring.ts';
import { startKms } from './test-kms.ts';

/** Moments at which the files are taken as they are: what a kill -9 at that moment leaves. */
const MOMENTS = 300;
/** Kills in earnest, each with a start after it. */
const KILLS = 4;

/** In memory where there is such a place: the copies are read once, and need not be synced to a disk. */
const SCRATCH = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

let folder: string;
let flags: string[];
let kms: KmsProcess;
let admin: string;
let owner: string;
/** What was acknowledged, by what the next reader must find. */
let acknowledged: { owners: string[]; grants: string[]; revoked: string[]; models: Map<string, Uint8Array> };

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-kill-'));
  writeFileSync(join(folder, 'policy.json'), JSON.stringify((await startKms()).policy));
  flags = ['--state', join(folder, 'state'), '--policy', join(folder, 'policy.json')];
  kms = await startKmsProcess(flags);
  admin = readFileSync(join(folder, 'state', 'admin.token'), 'utf8');
  acknowledged = { owners: [], grants: [], revoked: [], models: new Map() };
  const made = (await (await call('POST', '/v1/owners', admin, { name: 'acme' })).json()) as { token: string };
  owner = made.token;
  const quotas = { models: 100_000, grants: 100_000, leases: 1, releasesPerMinute: 1 };
  expect((await call('PUT', '/v1/owners/acme/quotas', admin, quotas)).status).toBe(200);
  await storeModel();
});
afterEach(() => {
  kms.child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

const call = (method: string, path: string, token: string, body?: object): Promise<Response> =>
  fetch(`${kms.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

async function storeModel(): Promise<void> {
  const [digest, dataKey] = [randomBytes(32).toString('hex'), randomBytes(32)];
  const model = `acme/m@${digest.slice(0, 16)}`;
  const sealedKey = await sealTo(kms.publicKey, dataKey, dataKeyInfo(digest, model));
  const stored = await call('PUT', `/v1/models/${digest}`, owner, {
    model,
    sealedKey,
  });
  if (stored.status === 201) acknowledged.models.set(digest, dataKey);
}
async function addOwner(): Promise<void> {
  const name = `o${randomBytes(6).toString('hex')}`;
  if ((await call('POST', '/v1/owners', admin, { name })).status === 201) acknowledged.owners.push(name);
}
async function grant(): Promise<void> {
  const [digest] = acknowledged.models.keys();
  const path = `/v1/models/${digest}/grants`;
  const until = new Date(Date.now() + 3_600_000).toISOString();
  const body = { tenant: `t${randomBytes(6).toString('hex')}`, function: 'f', leaseMs: 1000, until };
  const granted = await call('PUT', path, owner, body);
  const { id } = (await granted.json()) as { id: string };
  if (granted.status !== 200) return;
  if (randomInt(3) > 0) return void acknowledged.grants.push(id);
  if ((await call('DELETE', `${path}/${id}`, owner)).status === 200) acknowledged.revoked.push(id);
}
async function rotate(): Promise<void> {
  await call('POST', '/v1/keys/rotate', randomInt(4) > 0 ? owner : admin);
}

/** Writes of every kind until `ended`, a few at a time. A call that a kill cuts off was not acknowledged. */
function writers(ended: () => boolean): Promise<unknown> {
  const works = [storeModel, addOwner, grant, grant, rotate];
  const loop = async (): Promise<void> => {
    while (!ended()) await works[randomInt(works.length)]?.().catch(() => undefined);
  };
  return Promise.all([loop(), loop(), loop()]);
}

/** Opens what lies in a state folder as a KMS would, and looks for what was acknowledged. */
async function inspect(state: string, expected: typeof acknowledged): Promise<void> {
  const keyring = await openKeyring(join(state, 'keyring.sqlite'), `file:${join(state, 'root.key')}`, {
    randomBytes,
    fetch,
    credential: () => undefined,
  });
  const { store, rootKey, auditKey } = keyring;
  try {
    const owners = new Set((await store.owners()).map(({ name }) => name));
    expect(expected.owners.filter((name) => !owners.has(name))).toEqual([]);
    const models = new Map((await store.models('acme')).map((model) => [model.digest, model]));
    const [granted] = expected.models.keys();
    const grants = new Set((await store.grants(granted ?? '', 'acme')).map(({ id }) => id));
    expect(expected.grants.filter((id) => !grants.has(id))).toEqual([]);
    expect(expected.revoked.filter((id) => grants.has(id))).toEqual([]);
    expect([...expected.models.keys()].filter((digest) => !models.has(digest))).toEqual([]);
    // Every key opens, whichever version wraps it; of those acknowledged some are compared.
    const deps = { store, rootKey, randomBytes, now: () => new Date() };
    for (const [digest, dataKey] of [...expected.models].slice(-5)) {
      const model = models.get(digest);
      if (model !== undefined) expect(await unwrapDataKey(model, deps)).toEqual(dataKey);
    }
    const page = await store.auditPage('acme', 0, 1_000_000);
    const lines = [...page.lines, ...page.checkpoints.map((checkpoint) => ({ checkpoint }))];
    await verifyAudit(
      lines.map((line) => JSON.stringify(line)),
      auditKey.publicKey,
    );
  } finally {
    store.close();
    await rootKey.close();
  }
}

const copyOf = ({ owners, grants, revoked, models }: typeof acknowledged): typeof acknowledged => ({
  owners: [...owners],
  grants: [...grants],
  revoked: [...revoked],
  models: new Map(models),
});

describe('INV-14 the KMS, killed at any moment of any write', () => {
  test(`has lost nothing that was acknowledged, at ${MOMENTS} random moments`, { timeout: 300_000 }, async () => {
    let ended = false;
    const writing = writers(() => ended);
    const { pid = 0 } = kms.child;
    try {
      for (let moment = 0; moment < MOMENTS; moment++) {
        await new Promise((resolve) => setTimeout(resolve, randomInt(15)));
        const expected = copyOf(acknowledged); // before the stop: later answers may be on their way
        process.kill(pid, 'SIGSTOP');
        while (!/^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) await new Promise(setImmediate);
        const taken = mkdtempSync(join(SCRATCH, 'cfn-kms-moment-'));
        for (const name of ['keyring.sqlite', 'keyring.sqlite-wal', 'root.key']) {
          const file = join(folder, 'state', name);
          if (existsSync(file)) copyFileSync(file, join(taken, name));
        }
        await inspect(taken, expected);
        process.kill(pid, 'SIGCONT');
        rmSync(taken, { recursive: true });
      }
    } finally {
      ended = true;
      await writing;
    }
    expect(acknowledged.models.size).toBeGreaterThan(10); // there was writing all along
    expect(acknowledged.grants.length + acknowledged.revoked.length).toBeGreaterThan(10);
  });

  test(`starts again by itself, ${KILLS} times, with all that was acknowledged`, { timeout: 300_000 }, async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      let ended = false;
      const writing = writers(() => ended);
      await new Promise((resolve) => setTimeout(resolve, 200 + randomInt(300)));
      kms.child.kill('SIGKILL');
      await once(kms.child, 'exit');
      ended = true;
      await writing;
      const before = copyOf(acknowledged);
      kms = await startKmsProcess(flags);
      await storeModel();
      await inspect(join(folder, 'state'), before);
    }
  });
});
