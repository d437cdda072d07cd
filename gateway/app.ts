import { Hono } from 'hono';
import { CfnError, toCfnError, toHex, toProblem } from '../proto/index.ts';
import { attestationRoutes } from './attestation-document.ts';
import type { AppEnv, Gateway } from './context.ts';
import { batchRoutes } from './control/batches.ts';
import { blobRoutes } from './control/blobs.ts';
import { consentRoutes } from './control/consents.ts';
import { functionRoutes } from './control/functions.ts';
import { keyRoutes } from './control/keys.ts';
import { limitRoutes } from './control/limits.ts';
import { modelRoutes } from './control/models.ts';
import { openapiRoutes } from './control/openapi.ts';
import { tenantRoutes } from './control/tenants.ts';
import { tokenRoutes } from './control/tokens.ts';
import { usageRoutes } from './control/usage.ts';
import { versionRoutes } from './control/versions.ts';
import { workerRoutes } from './control/workers.ts';
import { corsFields, corsRoutes } from './cors.ts';
import { invokeRoutes } from './invoke.ts';
import { ohttpKeysRoutes } from './ohttp-keys.ts';

/** The public surface (design §10). Every answer has a request id, every error is a problem with a code. */
export function gatewayApp(gateway: Gateway): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(async (c, next) => {
    const requestId = toHex(gateway.randomBytes(16));
    c.set('requestId', requestId);
    // Invocations write their own head, this header in it.
    if (!c.req.path.startsWith('/f/')) c.header('cfn-request-id', requestId);
    await next();
  });
  app.onError((cause, c) => {
    const error = toCfnError(cause);
    const requestId = c.get('requestId');
    if (error.code === 'CFN_INTERNAL')
      gateway.log('request.failed', { request: requestId, error: errorName(error.cause) });
    const headers = {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'cfn-request-id': requestId,
      ...(error.retryAfterSeconds === undefined ? {} : { 'retry-after': String(error.retryAfterSeconds) }),
      ...corsFields(c),
      ...c.get('refusalFields'),
      ...(error.status === 401 ? { 'www-authenticate': 'Bearer' } : {}), // RFC 9110 §15.5.2
    };
    return new Response(JSON.stringify(toProblem(error)), { status: error.status, headers });
  });
  app.notFound(() => {
    throw new CfnError('CFN_NOT_FOUND', 'nothing is served at this path');
  });

  corsRoutes(app);
  invokeRoutes(app, gateway);
  attestationRoutes(app, gateway);
  ohttpKeysRoutes(app, gateway);
  tenantRoutes(app, gateway);
  tokenRoutes(app, gateway);
  keyRoutes(app, gateway);
  limitRoutes(app, gateway);
  blobRoutes(app, gateway);
  modelRoutes(app, gateway);
  functionRoutes(app, gateway);
  versionRoutes(app, gateway);
  workerRoutes(app, gateway);
  consentRoutes(app, gateway);
  usageRoutes(app, gateway);
  batchRoutes(app, gateway);
  openapiRoutes(app);
  return app;
}

/** Where a bug is: its class and the line it came from. Its message could hold payload and is left out. */
function errorName(cause: unknown): string {
  if (!(cause instanceof Error)) return typeof cause;
  const line = cause.stack?.split('\n').find((text) => text.trimStart().startsWith('at '));
  return `${cause.name} ${line?.trim() ?? ''}`;
}

/** The operator's listener: health, readiness, metrics. */
export function adminApp(gateway: Pick<Gateway, 'metrics' | 'store' | 'registry' | 'servesWithoutStore'>): Hono {
  const app = new Hono();
  app.get('/healthz', (c) => c.text('ok'));
  app.get('/readyz', async (c) => {
    const workers = gateway.registry.live().length;
    try {
      await gateway.store.receipt('readiness'); // which no view answers
    } catch {
      // Were all gateways of a fleet unready the moment Redis goes, nobody would serve what they can.
      return gateway.servesWithoutStore()
        ? c.json({ ready: true, workers, store: 'away' })
        : c.json({ ready: false }, 503);
    }
    return c.json({ ready: true, workers });
  });
  app.get('/metrics', async (c) =>
    c.body(await gateway.metrics.text(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );
  return app;
}
