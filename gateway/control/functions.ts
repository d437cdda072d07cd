import type { Hono } from 'hono';
import { z } from 'zod';
import {
  BUNDLE_BYTES_MAX,
  CfnError,
  fromBase64url,
  MANIFEST_BYTES_MAX,
  verifyBundle,
  verifyManifest,
} from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import { scopeOf } from '../access/roles.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { jsonBody } from './body.ts';

const BUNDLE_TEXT_MAX = Math.ceil((BUNDLE_BYTES_MAX * 4) / 3);

export const deployRequestSchema = z.strictObject({
  /** The signed manifest (JWS). */
  manifest: z.string().max(MANIFEST_BYTES_MAX),
  /** base64url */
  bundle: z.string().max(BUNDLE_TEXT_MAX),
  /** `false`: kept, for a deployment that names it. */
  deploy: z.boolean().default(true),
});

/** Deployment. The gateway is a carrier: it checks early, and the worker checks again for itself. */
export function functionRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/functions/:tenant/:name/versions', may('functions:write'), async (c) => {
    const { tenant, name } = c.req.param();
    if (!(await gateway.store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    const body = await jsonBody(c, deployRequestSchema, BUNDLE_TEXT_MAX + MANIFEST_BYTES_MAX + 1024);
    const bundle = fromBase64url(body.bundle);
    const signed = await verifyManifest(body.manifest);
    const { manifest, version, jws } = signed;
    if (manifest.tenant !== tenant || manifest.name !== name) {
      throw new CfnError(
        'CFN_INPUT_INVALID',
        `the manifest is for ${manifest.tenant}/${manifest.name}, not for ${tenant}/${name}`,
      );
    }
    await verifyBundle(manifest, bundle);
    await gateway.consent.demand(manifest);
    for (const { model, digest } of manifest.models) {
      const held = await gateway.store.model(model);
      if (held?.digest !== digest)
        throw new CfnError('CFN_MODEL_NOT_FOUND', `model ${model} with digest ${digest} is not in the catalogue`);
    }
    const deployedAt = gateway.now().toISOString();
    const stored = { tenant, name, version, jws, bundle };
    const added = await (body.deploy
      ? gateway.store.addVersion(stored, deployedAt)
      : gateway.store.uploadVersion(stored, deployedAt));
    gateway.log(body.deploy ? 'function.deployed' : 'function.uploaded', { tenant, function: name, version });
    const workers = body.deploy ? await gateway.router.deploy(signed) : [];
    return c.json(
      { tenant, name, version, url: `${new URL(c.req.url).origin}/f/${tenant}/${name}/`, workers },
      added ? 201 : 200,
    );
  });

  app.get('/v1/functions', may('functions:read'), async (c) => {
    return c.json({ functions: await gateway.store.functions(scopeOf(c.get('caller'))) });
  });

  app.get('/v1/functions/:tenant/:name', may('functions:read'), async (c) => {
    const { tenant, name } = c.req.param();
    const [{ signed }] = (await gateway.catalogue.deployed(tenant, name)).versions;
    const { manifest, version, author, jws } = signed;
    return c.json({ tenant, name, version, author, manifest, jws });
  });
}
