import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError, digestSchema, SPLIT_VERSIONS_MAX } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { attestedShare } from '../rollout-watch.ts';
import type { LoadOutcome } from '../router.ts';
import type { Deployment } from '../store/index.ts';
import { jsonBody } from './body.ts';

const messageSchema = z.string().max(500).default('');
export const deploymentRequestSchema = z.strictObject({
  /** Percentages are whole and make 100. A version at 0 gets only requests that name it. */
  versions: z
    .array(z.strictObject({ version: digestSchema, percent: z.int().min(0).max(100) }))
    .min(1)
    .max(SPLIT_VERSIONS_MAX),
  message: messageSchema,
});
export const rollbackRequestSchema = z.strictObject({
  /** Default: what was deployed alone before the current deployment. */
  version: digestSchema.optional(),
  message: messageSchema,
});

/** Which versions a function has, and which of them get requests. */
export function versionRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  const { store } = gateway;

  app.get('/v1/functions/:tenant/:name/versions', may('functions:read'), async (c) => {
    const { tenant, name } = c.req.param();
    const deployment = await current(gateway, tenant, name);
    const versions = (await store.versions(tenant, name)).map((it) => ({
      ...it,
      percent: deployment.versions.find(({ version }) => version === it.version)?.percent ?? null,
      attestedShare: attestedShare(gateway.fleet.view(it.version)),
    }));
    return c.json({ tenant, name, versions, deployment });
  });

  app.get('/v1/functions/:tenant/:name/versions/:version', may('functions:read'), async (c) => {
    const { tenant, name } = c.req.param();
    const { manifest, version, author, jws } = await gateway.catalogue.version(tenant, name, c.req.param('version'));
    const deployment = await store.currentDeployment(tenant, name);
    const percent = deployment?.versions.find((it) => it.version === version)?.percent ?? null;
    return c.json({ tenant, name, version, percent, author, manifest, jws });
  });

  app.get('/v1/functions/:tenant/:name/deployments', may('functions:read'), async (c) => {
    const { tenant, name } = c.req.param();
    await current(gateway, tenant, name);
    return c.json({ tenant, name, deployments: await store.deployments(tenant, name) });
  });

  app.post('/v1/functions/:tenant/:name/deployments', may('functions:write'), async (c) => {
    const { tenant, name } = c.req.param();
    const { versions, message } = await jsonBody(c, deploymentRequestSchema, CONTROL_BYTES_MAX);
    if (versions.reduce((sum, { percent }) => sum + percent, 0) !== 100)
      throw new CfnError('CFN_INPUT_INVALID', 'versions: expected percentages that make 100');
    if (new Set(versions.map(({ version }) => version)).size < versions.length)
      throw new CfnError('CFN_INPUT_INVALID', 'versions: expected each version once');
    const at = gateway.now().toISOString();
    return c.json(await deploy(gateway, { tenant, name, versions, at, cause: 'versions', message }), 201);
  });

  app.post('/v1/functions/:tenant/:name/rollback', may('functions:write'), async (c) => {
    const { tenant, name } = c.req.param();
    const { version: asked, message } = await jsonBody(c, rollbackRequestSchema, CONTROL_BYTES_MAX);
    const version = asked ?? (await versionBefore(gateway, tenant, name));
    const at = gateway.now().toISOString();
    const versions = [{ version, percent: 100 }];
    return c.json(await deploy(gateway, { tenant, name, versions, at, cause: 'rollback', message }), 201);
  });
}

/** Takes effect with the next request; then workers are asked to load what they do not have. */
async function deploy(
  gateway: Gateway,
  asked: Omit<Deployment, 'id'>,
): Promise<{ deployment: Deployment; workers: (LoadOutcome & { version: string })[] }> {
  const { tenant, name, versions } = asked;
  const signed = await Promise.all(versions.map(({ version }) => gateway.catalogue.version(tenant, name, version)));
  for (const { manifest } of signed) await gateway.consent.demand(manifest);
  const deployment = await gateway.store.addDeployment(asked);
  gateway.log('function.deployed', { tenant, function: name, deployment: deployment.id, cause: asked.cause });
  const outcomes = await Promise.all(
    signed.map(async (it) => (await gateway.router.deploy(it)).map((outcome) => ({ ...outcome, version: it.version }))),
  );
  return { deployment, workers: outcomes.flat() };
}

/** The version that was deployed alone, last before the current deployment. */
async function versionBefore(gateway: Gateway, tenant: string, name: string): Promise<string> {
  const [now, ...earlier] = await gateway.store.deployments(tenant, name);
  const leading = now?.versions.find(({ percent }) => percent === 100)?.version;
  for (const { versions } of earlier) {
    const alone = versions.find(({ percent }) => percent === 100)?.version;
    if (alone !== undefined && alone !== leading) return alone;
  }
  throw new CfnError('CFN_FUNCTION_NOT_FOUND', `${tenant}/${name} has no version that was deployed before`);
}

async function current(gateway: Gateway, tenant: string, name: string): Promise<Deployment> {
  const found = await gateway.store.currentDeployment(tenant, name);
  if (found !== undefined) return found;
  throw new CfnError('CFN_FUNCTION_NOT_FOUND', `tenant ${tenant} has no function ${name}`);
}
