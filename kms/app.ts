import { Hono, type Context } from 'hono';
import { routePath } from 'hono/route';
import { z } from 'zod';
import {
  CfnError,
  digestSchema,
  droppedSchema,
  grantSchema,
  leaseEventsRequestSchema,
  nameSchema,
  newTokenSchema,
  openSealed,
  putKeySchema,
  putResourceSchema,
  quotasSchema,
  releaseRequestSchema,
  resourcePartSchema,
  toCfnError,
  withdrawalRequestSchema,
  type ErrorCode,
} from '../proto/index.ts';
import { answerKeyInfo, PROOF_HEADER, proveAnswer } from '../proto/node.ts';
import type { KmsDeps } from './deps.ts';
import { demandModel, putGrant } from './grants.ts';
import { parseInput, problemResponse, readJson } from './http.ts';
import { openLeaseEvents } from './lease-events.ts';
import { acceptDropped, leaseRemainingMs, revokeLease } from './leases.ts';
import {
  AUDIT_PAGE_MAX,
  LEASES_LISTED_MAX,
  POLICY_BYTES_MAX,
  RELEASE_BODY_BYTES_MAX,
  RESOURCE_BODY_BYTES_MAX,
  RELEASES_INFLIGHT_MAX,
  SMALL_BODY_BYTES_MAX,
  WITHDRAWAL_BYTES_MAX,
} from './limits.ts';
import { rotateNamespaceKey, rotateRootKey } from './namespace-key.ts';
import { kbsRoutes } from './kbs/routes.ts';
import { putResource } from './kbs/put-resource.ts';
import { listKeys } from './key-list.ts';
import { putModel } from './models.ts';
import { addOwner, addToken } from './owners.ts';
import { parsePolicy } from './policies.ts';
import { release } from './release.ts';
import { secretRoutes, type Appraised } from './secret-routes.ts';
import { isLive, type ResourceKey, type StoredGrant, type StoredLease } from './store.ts';
import { demandAdmin, demandOwner, identify, namespaceOf, readerOf } from './tokens.ts';
import { withdrawFunction, withdrawModel } from './withdrawals.ts';

/** One line for each call. The route, not the path: paths hold lease ids. */
export interface CallLog {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly code?: ErrorCode;
  readonly durationMs: number;
}

const ownerSchema = z.strictObject({ name: nameSchema });

/**
 * The KMS as a Hono app: design §5, wire contract in `proto/kms-api.ts`. Errors are problem documents.
 *
 * @param deps.adminTokenDigest SHA-256 of the administrator's token
 * @param deps.log takes one entry for each call; no entry holds a token, key, id or evidence
 */
export function createKms(
  deps: KmsDeps & { readonly adminTokenDigest: Uint8Array; readonly log: (entry: CallLog) => void },
): Hono {
  const app = new Hono();
  const { store, now } = deps;
  const callerOf = (authorization: string | undefined): ReturnType<typeof identify> => identify(authorization, deps);
  const ownerOf = async (authorization: string | undefined): Promise<string> =>
    demandOwner(await callerOf(authorization));
  let appraisals = 0;
  /** Answers with what an appraisal leads to, and proves that the answer is of this KMS, where the one who asks gave a key for that. */
  const appraised: Appraised = async (c, { answerKey: sealedKey, challenge }, work) => {
    if (appraisals >= RELEASES_INFLIGHT_MAX)
      throw new CfnError('CFN_BUSY', `${RELEASES_INFLIGHT_MAX} releases are under way`);
    appraisals++;
    try {
      // Opened first: a key that is not for this KMS says that nothing here is meant for the one who asks.
      const answerKey =
        sealedKey &&
        (await openSealed(deps.sealingKey.privateKey, sealedKey, answerKeyInfo(challenge), 'CFN_KMS_MISMATCH'));
      const text = JSON.stringify(await work());
      if (answerKey !== undefined) c.header(PROOF_HEADER, proveAnswer(answerKey, text));
      return c.body(text, 200, { 'content-type': 'application/json' });
    } finally {
      appraisals--;
    }
  };

  app.use(async (c, next) => {
    const start = performance.now();
    await next();
    c.header('cache-control', 'no-store');
    const code = c.error instanceof Error ? toCfnError(c.error).code : undefined;
    const route = routePath(c, -1);
    deps.log({
      method: c.req.method,
      route,
      status: c.res.status,
      ...(code && { code }),
      durationMs: Math.round(performance.now() - start),
    });
  });
  app.onError((error) => problemResponse(toCfnError(error)));
  app.notFound(() => problemResponse(new CfnError('CFN_NOT_FOUND', 'there is no such route')));

  // Workers. Evidence is what lets them in; nothing else is asked of them.
  app.get('/v1/info', (c) => c.json({ publicKey: deps.sealingKey.publicKey, auditKey: deps.auditKey }));
  app.post('/v1/challenge', (c) => c.json(deps.challenges.issue()));
  app.post('/v1/release', async (c) => {
    const request = await readJson(c, releaseRequestSchema, RELEASE_BODY_BYTES_MAX);
    return appraised(c, request, () => release(request, deps));
  });
  app.post('/v1/leases/events', async (c) => {
    const { statement } = await readJson(c, leaseEventsRequestSchema, SMALL_BODY_BYTES_MAX);
    return c.body(await openLeaseEvents(statement, deps), 200, { 'content-type': 'text/plain; charset=utf-8' });
  });
  app.get('/v1/leases/:id', async (c) => {
    const id = c.req.param('id');
    return c.json({ lease: id, live: true, remainingMs: await leaseRemainingMs(id, deps) });
  });
  app.post('/v1/leases/:id/dropped', async (c) => {
    const { statement } = await readJson(c, droppedSchema, SMALL_BODY_BYTES_MAX);
    await acceptDropped(c.req.param('id'), statement, deps);
    return c.json({});
  });

  secretRoutes(app, deps, {
    owner: ownerOf,
    reader: async (authorization) => namespaceOf(await callerOf(authorization)),
    appraised,
  });

  // Workers of others, by the protocol of key brokers.
  const kbs = kbsRoutes(deps);
  app.route('/kbs/v0', kbs);
  app.route('/owners/:owner/kbs/v0', kbs);

  // Authors.
  app.post('/v1/withdrawals', async (c) => {
    const request = await readJson(c, withdrawalRequestSchema, WITHDRAWAL_BYTES_MAX);
    return c.json({ leasesRevoked: await withdrawFunction(request, deps) });
  });

  // The administrator.
  app.post('/v1/owners', async (c) => {
    demandAdmin(await callerOf(c.req.header('authorization')));
    const { name } = await readJson(c, ownerSchema, SMALL_BODY_BYTES_MAX);
    return c.json(await addOwner(name, deps), 201);
  });
  app.get('/v1/owners', async (c) => {
    demandAdmin(await callerOf(c.req.header('authorization')));
    const owners = await store.owners();
    return c.json({ owners: owners.map(({ name, quotas, addedAt }) => ({ name, quotas, addedAt: iso(addedAt) })) });
  });
  app.put('/v1/owners/:name/quotas', async (c) => {
    demandAdmin(await callerOf(c.req.header('authorization')));
    const quotas = await readJson(c, quotasSchema, SMALL_BODY_BYTES_MAX);
    if (!(await store.setQuotas(c.req.param('name'), quotas, now().getTime())))
      throw new CfnError('CFN_NOT_FOUND', 'there is no such owner');
    return c.json(quotas);
  });

  // Owner and administrator alike, each of what is theirs: the token says whose namespace, and no call can name another.
  app.get('/v1/keys', async (c) =>
    c.json(await listKeys(readerOf(await callerOf(c.req.header('authorization'))), deps)),
  );
  app.post('/v1/keys/rotate', async (c) => {
    const caller = await callerOf(c.req.header('authorization'));
    return c.json(
      caller.role === 'admin' ? await rotateRootKey(deps) : await rotateNamespaceKey(demandOwner(caller), deps),
    );
  });
  app.get('/v1/audit', async (c) => {
    const reader = readerOf(await callerOf(c.req.header('authorization'))) ?? '';
    const after = parseInput(z.coerce.number().int().nonnegative(), c.req.query('after') ?? '0', 'after');
    return c.json(await store.auditPage(reader, after, AUDIT_PAGE_MAX));
  });

  // An owner's namespace.
  app.get('/v1/tokens', async (c) => {
    const tokens = await store.tokens(await ownerOf(c.req.header('authorization')));
    return c.json({ tokens: tokens.map(({ id, role, madeAt }) => ({ id, role, madeAt: iso(madeAt) })) });
  });
  app.post('/v1/tokens', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    const { role } = await readJson(c, newTokenSchema, SMALL_BODY_BYTES_MAX);
    return c.json(await addToken(owner, role, deps), 201);
  });
  app.delete('/v1/tokens/:id', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    if (!(await store.removeToken(owner, c.req.param('id'), now().getTime())))
      throw new CfnError('CFN_NOT_FOUND', 'there is no such token, or it is the last that may change anything');
    return c.json({});
  });
  app.get('/v1/policy', async (c) =>
    c.json((await deps.policies.of(readerOf(await callerOf(c.req.header('authorization'))))).policy),
  );
  app.put('/v1/policy', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    const { policy, digest } = await parsePolicy(await readJson(c, z.unknown(), POLICY_BYTES_MAX));
    await store.setPolicy(owner, JSON.stringify(policy), digest, now().getTime());
    return c.json({ policy: digest });
  });
  app.delete('/v1/policy', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    await store.setPolicy(owner, undefined, "the KMS's own", now().getTime());
    return c.json({});
  });

  // Model owners. Each sees and changes what is theirs; the administrator sees all and may revoke.
  app.put('/v1/models/:digest', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    const digest = parseInput(digestSchema, c.req.param('digest'), 'digest');
    const added = await putModel(digest, owner, await readJson(c, putKeySchema, SMALL_BODY_BYTES_MAX), deps);
    return c.json({ digest }, added ? 201 : 200);
  });
  app.get('/v1/models', async (c) => {
    const models = await store.models(readerOf(await callerOf(c.req.header('authorization'))));
    return c.json({
      models: models.map(({ digest, model, storedAt, withdrawnAt }) => ({
        digest,
        model,
        storedAt: iso(storedAt),
        ...(withdrawnAt !== undefined && { withdrawnAt: iso(withdrawnAt) }),
      })),
    });
  });
  app.delete('/v1/models/:digest', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    return c.json({ leasesRevoked: await withdrawModel(c.req.param('digest'), owner, deps) });
  });
  app.put('/v1/models/:digest/grants', async (c) => {
    const key = { owner: await ownerOf(c.req.header('authorization')), digest: c.req.param('digest') };
    return c.json(grantView(await putGrant(key, await readJson(c, grantSchema, SMALL_BODY_BYTES_MAX), deps)));
  });
  app.get('/v1/models/:digest/grants', async (c) => {
    const owner = namespaceOf(await callerOf(c.req.header('authorization')));
    const key = { owner, digest: c.req.param('digest') };
    await demandModel(key, deps);
    const grants = await store.grants(key.digest, key.owner);
    const counted = grants.map(async (grant) => ({
      ...grantView(grant),
      invocations: await store.count(grant.id, now().getTime()),
    }));
    return c.json({ grants: await Promise.all(counted) });
  });
  app.delete('/v1/models/:digest/grants/:id', async (c) => {
    const owner = await ownerOf(c.req.header('authorization'));
    const revoked = await store.removeGrant(c.req.param('id'), c.req.param('digest'), owner, now().getTime());
    if (revoked === undefined) throw new CfnError('CFN_NOT_FOUND', 'there is no such grant');
    return c.json({ leasesRevoked: revoked });
  });
  const resourceKey = async (c: Context): Promise<ResourceKey> => ({
    owner: await ownerOf(c.req.header('authorization')),
    type: parseInput(resourcePartSchema, c.req.param('type'), 'type'),
    tag: parseInput(resourcePartSchema, c.req.param('tag'), 'tag'),
  });
  app.put('/v1/resources/:type/:tag', async (c) => {
    const key = await resourceKey(c);
    await putResource(key, await readJson(c, putResourceSchema, RESOURCE_BODY_BYTES_MAX), deps);
    return c.json({ resource: nameOf(key) });
  });
  app.get('/v1/resources', async (c) => {
    const owner = readerOf(await callerOf(c.req.header('authorization')));
    if (owner === undefined) throw new CfnError('CFN_TOKEN_SCOPE', "expected a model owner's token");
    const resources = await store.resources(owner);
    return c.json({
      resources: resources.map(({ bytes, terms, storedAt, ...key }) => ({
        resource: nameOf(key),
        bytes,
        storedAt: iso(storedAt),
        terms,
      })),
    });
  });
  app.delete('/v1/resources/:type/:tag', async (c) => {
    if (!(await store.removeResource(await resourceKey(c), now().getTime())))
      throw new CfnError('CFN_NOT_FOUND', 'there is no such resource');
    return c.json({});
  });
  app.get('/v1/leases', async (c) => {
    const leases = await store.leases(readerOf(await callerOf(c.req.header('authorization'))), LEASES_LISTED_MAX);
    return c.json({ leases: leases.map((lease) => leaseView(lease, now().getTime())) });
  });
  app.delete('/v1/leases/:id', async (c) => {
    const caller = await callerOf(c.req.header('authorization'));
    await revokeLease(c.req.param('id'), caller.role === 'admin' ? undefined : demandOwner(caller), deps);
    return c.json({});
  });
  return app;
}

const nameOf = ({ owner, type, tag }: ResourceKey): string => `${owner}/${type}/${tag}`;
const iso = (at: number): string => new Date(at).toISOString();
const grantView = ({ id, grant, grantedAt }: StoredGrant): object => ({ id, ...grant, grantedAt: iso(grantedAt) });

function leaseView(lease: StoredLease, at: number): object {
  const { id, digest, tenant, version, worker, tee, grant, evidence, policy, keyVersion } = lease;
  const { receiptKey, used, usage, allowed, revokedAt, droppedAt, statement } = lease;
  return {
    lease: id,
    live: isLive(lease, at),
    model: digest,
    tenant,
    function: lease.function,
    version,
    worker,
    receiptKey,
    tee,
    grant,
    used,
    ...(allowed !== undefined && { allowed }),
    ...(usage !== undefined && { usage }),
    evidence,
    policy,
    keyVersion,
    startedAt: iso(lease.startedAt),
    endsAt: iso(lease.endsAt),
    ...(revokedAt !== undefined && { revokedAt: iso(revokedAt) }),
    ...(droppedAt !== undefined && { droppedAt: iso(droppedAt), statement }),
  };
}
