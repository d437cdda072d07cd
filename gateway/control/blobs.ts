import type { Hono } from 'hono';
import { stream } from 'hono/streaming';
import { CfnError, digestSchema } from '../../proto/index.ts';
import type { AppContext, AppEnv, Gateway } from '../context.ts';
import { requireRole } from '../tokens.ts';
import { authenticate } from './authentication.ts';
import { uploaded } from './body.ts';

/** Ciphertext by digest, streamed both ways. */
export function blobRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  // Hono answers HEAD through the GET route, without the body.
  app.get('/v1/blobs/:digest', async (c) => {
    await authenticate(c, gateway);
    const digest = digestOf(c);
    const blob = await gateway.blobs.get(digest);
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

  app.put('/v1/blobs/:digest', async (c) => {
    requireRole(await authenticate(c, gateway), 'operator', 'tenant');
    const digest = digestOf(c);
    const held = await gateway.blobs.size(digest);
    if (held !== undefined) return c.json({ digest, bytes: held }, 200);
    await gateway.blobs.put(digest, uploaded(c));
    return c.json({ digest, bytes: await gateway.blobs.size(digest) }, 201);
  });
}

function digestOf(c: AppContext): string {
  const digest = digestSchema.safeParse(c.req.param('digest'));
  if (!digest.success) throw new CfnError('CFN_INPUT_INVALID', 'a blob is named by 64 lower-case hexadecimal digits');
  return digest.data;
}
