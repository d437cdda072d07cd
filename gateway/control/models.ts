import type { Hono } from 'hono';
import { CfnError, MANIFEST_BYTES_MAX, parseModelPackage } from '../../proto/index.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { requireTenant } from '../tokens.ts';
import { authenticate } from './authentication.ts';
import { bodyBytes } from './body.ts';

/** The catalogue of model packages. Manifests are kept and given as exact bytes: their digest is the package's identity. */
export function modelRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.post('/v1/models', async (c) => {
    const caller = await authenticate(c, gateway);
    const bytes = await bodyBytes(c, MANIFEST_BYTES_MAX);
    const { model, digest, files } = await parseModelPackage(bytes);
    requireTenant(caller, model.slice(0, model.indexOf('/')));
    for (const { path, ciphertextDigest } of files) {
      if ((await gateway.blobs.size(ciphertextDigest)) === undefined) {
        throw new CfnError('CFN_BLOB_NOT_FOUND', `file ${path}: no blob ${ciphertextDigest}`);
      }
    }
    const added = await gateway.store.addModel({ model, digest, createdAt: gateway.now().toISOString() }, bytes);
    return c.json({ model, digest }, added ? 201 : 200);
  });

  app.get('/v1/models', async (c) => {
    await authenticate(c, gateway);
    return c.json({ models: await gateway.store.models() });
  });

  app.get('/v1/models/:owner/:name/:version', async (c) => {
    await authenticate(c, gateway);
    const reference = `${c.req.param('owner')}/${c.req.param('name')}@${c.req.param('version')}`;
    const held = await gateway.store.model(reference);
    if (held === undefined) throw new CfnError('CFN_MODEL_NOT_FOUND', `no model ${reference.slice(0, 200)}`);
    return c.body(new Uint8Array(held.manifest), 200, {
      'content-type': 'application/json',
      'cfn-digest': held.digest,
    });
  });
}
