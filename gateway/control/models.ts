import type { Hono } from 'hono';
import { CfnError, MANIFEST_BYTES_MAX, parseModelPackage } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import { requireTenant, scopeOf } from '../access/roles.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { bodyBytes } from './body.ts';

/** The catalogue of model packages. Manifests are kept and given as exact bytes: their digest is the package's identity. */
export function modelRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/models', may('models:write'), async (c) => {
    const bytes = await bodyBytes(c, MANIFEST_BYTES_MAX);
    const { model, digest, files } = await parseModelPackage(bytes);
    c.set('subject', model);
    requireTenant(c.get('caller'), model.slice(0, model.indexOf('/')));
    for (const { path, ciphertextDigest } of files) {
      if ((await gateway.blobs.size(ciphertextDigest)) === undefined) {
        throw new CfnError('CFN_BLOB_NOT_FOUND', `file ${path}: no blob ${ciphertextDigest}`);
      }
    }
    const added = await gateway.store.addModel({ model, digest, createdAt: gateway.now().toISOString() }, bytes);
    return c.json({ model, digest }, added ? 201 : 200);
  });

  app.get('/v1/models', may('models:read'), async (c) => {
    return c.json({ models: await gateway.store.models(scopeOf(c.get('caller'))) });
  });

  // To be asked by name: a model may be granted to functions of others, and their authors pin its digest.
  app.get('/v1/models/:owner/:name/:version', may('models:read'), async (c) => {
    const reference = `${c.req.param('owner')}/${c.req.param('name')}@${c.req.param('version')}`;
    const held = await gateway.store.model(reference);
    if (held === undefined) throw new CfnError('CFN_MODEL_NOT_FOUND', `no model ${reference.slice(0, 200)}`);
    return c.body(new Uint8Array(held.manifest), 200, {
      'content-type': 'application/json',
      'cfn-digest': held.digest,
    });
  });
}
