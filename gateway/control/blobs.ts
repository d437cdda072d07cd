import type { Hono } from 'hono';
import { stream } from 'hono/streaming';
import { CfnError, digestSchema } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import { scopeOf, type Caller } from '../access/roles.ts';
import type { AppContext, AppEnv, Gateway } from '../context.ts';
import { uploaded } from './body.ts';

/** Ciphertext by digest, streamed both ways. */
export function blobRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  // Hono answers HEAD through the GET route, without the body.
  app.get('/v1/blobs/:digest', may('blobs:read'), async (c) => {
    const caller = c.get('caller');
    const digest = digestOf(c);
    const blob = await gateway.blobs.get(digest);
    if (blob === undefined && c.req.method === 'HEAD') {
      return c.body(null, 404, { 'upload-offset': String(await gateway.blobs.begun(digest, uploader(caller))) });
    }
    if (blob === undefined) throw new CfnError('CFN_BLOB_NOT_FOUND', `no blob ${digest}`);
    c.header('content-type', 'application/octet-stream');
    c.header('content-length', String(blob.bytes));
    if (c.req.method === 'HEAD') return c.body(null);
    return stream(c, async (sink) => {
      for await (const chunk of blob.stream()) {
        if (sink.aborted) return;
        await sink.write(chunk);
      }
    });
  });

  app.put('/v1/blobs/:digest', may('blobs:write'), async (c) => {
    const digest = digestOf(c);
    const held = await gateway.blobs.size(digest);
    if (held !== undefined) return c.json({ digest, bytes: held }, 200);
    await gateway.blobs.put(digest, uploaded(c));
    return c.json({ digest, bytes: await gateway.blobs.size(digest) }, 201);
  });

  // As in draft-ietf-httpbis-resumable-upload: an upload that broke off goes on where it did. HEAD says where.
  app.patch('/v1/blobs/:digest', may('blobs:write'), async (c) => {
    const caller = c.get('caller');
    const digest = digestOf(c);
    const offset = c.req.header('upload-offset') ?? '';
    if (!/^\d{1,15}$/.test(offset))
      throw new CfnError('CFN_INPUT_INVALID', 'upload-offset: expected a number of bytes');
    const held = await gateway.blobs.size(digest);
    if (held !== undefined) return c.json({ digest, bytes: held }, 200);
    await gateway.blobs.resume(digest, uploader(caller), Number(offset), uploaded(c), left(c));
    return c.json({ digest, bytes: await gateway.blobs.size(digest) }, 201);
  });
}

const uploader = (caller: Caller): string => {
  const tenant = scopeOf(caller);
  return tenant === undefined ? caller.role : `tenant ${tenant}`;
};

/** Aborts when the caller goes away. */
function left(c: AppContext): AbortSignal {
  const gone = new AbortController();
  c.env.outgoing.once('close', () => gone.abort(new CfnError('CFN_ABORTED', 'the caller went away')));
  return gone.signal;
}

function digestOf(c: AppContext): string {
  const digest = digestSchema.safeParse(c.req.param('digest'));
  if (!digest.success) throw new CfnError('CFN_INPUT_INVALID', 'a blob is named by 64 lower-case hexadecimal digits');
  return digest.data;
}
