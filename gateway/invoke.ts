import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Hono } from 'hono';
import {
  bodyLimits,
  CfnError,
  digestSchema,
  nameSchema,
  sealedRequestBytesMax,
  toCfnError,
  type SignedManifest,
} from '../proto/index.ts';
import { anybody } from './access/guard.ts';
import { demandInvoker } from './access/invoker.ts';
import type { Deployed } from './catalogue.ts';
import type { AppContext, AppEnv, Gateway } from './context.ts';
import { corsFields } from './cors.ts';
import { DEADLINE_MARGIN_MS } from './limits.ts';
import type { Mode } from './telemetry-names.ts';
import { openCall } from './open-mode.ts';
import { relay, type Relayed } from './relay.ts';
import { requestBody } from './request-body.ts';
import type { Route } from './router.ts';
import { isSealed, SEALED_RESPONSE } from './sealed-type.ts';
import { chooseVersion, deployedVersion } from './version-choice.ts';

/** `ANY /f/{tenant}/{function}/{path}`: sealed requests are relayed, anything else is open mode. */
export function invokeRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const handle = (c: AppContext): Promise<Response> => invoke(c, gateway);
  app.all('/f/:tenant/:function', anybody, handle);
  app.all('/f/:tenant/:function/*', anybody, handle);
}

async function invoke(c: AppContext, gateway: Gateway): Promise<Response> {
  const startedMs = gateway.monotonicMs();
  const mode: Mode = isSealed(c.req.header('content-type')) ? 'sealed' : 'open';
  const requestId = c.get('requestId');
  const trace = gateway.tracing.begin({ requestId, mode, traceparent: c.req.header('traceparent') });
  if (trace !== undefined) c.set('trace', trace);
  const over = (failure: CfnError | undefined): void => {
    const outcome = failure?.code ?? 'ok';
    gateway.metrics.invoked(mode, outcome, (gateway.monotonicMs() - startedMs) / 1000);
    trace?.end(outcome);
  };
  let release = (): void => undefined;
  try {
    gateway.ledger.checkWritable();
    const { tenant, name, path } = target(c);
    const deployed = await gateway.catalogue.deployed(tenant, name);
    const version = await (mode === 'sealed' ? sealedVersion(c, deployed) : openVersion(c, deployed, gateway));
    const tokenField = await demandInvoker(c, gateway, version.manifest);
    await gateway.consent.demand(version.manifest);
    gateway.rollouts.follow(deployed);
    const admitted = await gateway.quotas.admit(tenant);
    if (admitted.refusal !== undefined) {
      c.set('refusalFields', admitted.refusal.fields);
      throw admitted.refusal.error;
    }
    release = admitted.release;
    const { failure } = await (mode === 'sealed'
      ? sealed(c, gateway, version)
      : open(c, gateway, version, path, tokenField));
    over(failure);
    return RESPONSE_ALREADY_SENT;
  } catch (cause) {
    over(toCfnError(cause));
    throw cause;
  } finally {
    release();
  }
}

/** `cfn-function-version` says outside the seal which version the request was sealed for; the worker compares it with what is inside. */
function sealedVersion(c: AppContext, deployed: Deployed): SignedManifest {
  return deployedVersion(deployed, c.req.header('cfn-function-version'));
}

function openVersion(c: AppContext, deployed: Deployed, { random }: Gateway): Promise<SignedManifest> {
  const wish = { override: c.req.header('cfn-version-override'), key: c.req.header('cfn-version-key') };
  return chooseVersion(deployed, wish, random);
}

async function sealed(c: AppContext, gateway: Gateway, version: SignedManifest): Promise<Relayed> {
  const { incoming, outgoing } = c.env;
  const worker = digestSchema.safeParse(c.req.header('cfn-worker'));
  if (incoming.method !== 'POST') throw new CfnError('CFN_REQUEST_MALFORMED', 'a sealed request is a POST');
  if (!worker.success) throw new CfnError('CFN_REQUEST_MALFORMED', 'a sealed request names its worker in cfn-worker');
  // The relay cannot look inside: the worker holds the exact limits.
  const sealedBytesMax = sealedRequestBytesMax(bodyLimits(version.manifest.limits).requestBytesMax);
  if (Number(incoming.headers['content-length']) > sealedBytesMax) {
    throw new CfnError('CFN_BODY_TOO_LARGE', `a sealed request has at most ${sealedBytesMax} bytes`);
  }
  const route = await routed(
    gateway,
    version,
    gateway.router.toWorker(worker.data, version, () => left(outgoing)),
  );
  return onRoute(gateway, route, version, c, (requestId, deadlineMs) => {
    const head = { requestId, version: version.version, deadlineMs, trace: c.get('trace') !== undefined };
    const headers = {
      'content-type': SEALED_RESPONSE,
      'cache-control': 'no-store',
      'cfn-request-id': requestId,
      ...corsFields(c),
    };
    return relay(route.connection, { head, headers, sealedBytesMax }, incoming, outgoing);
  });
}

async function open(
  c: AppContext,
  gateway: Gateway,
  version: SignedManifest,
  path: string,
  tokenField: string | undefined,
): Promise<Relayed> {
  if (!version.manifest.caller.plaintext) {
    throw new CfnError('CFN_PLAINTEXT_REFUSED', 'the manifest of this function does not allow plaintext callers');
  }
  const { incoming, outgoing } = c.env;
  const { limits } = version.manifest;
  const bytesMax = bodyLimits(limits).requestBytesMax;
  const body = await requestBody(incoming, { bytesMax, wallMs: limits.wallMs });
  const route = await routed(
    gateway,
    version,
    gateway.router.toAny(version, () => left(outgoing)),
  );
  return onRoute(gateway, route, version, c, (requestId, deadlineMs) => {
    const authority = incoming.headers.host ?? 'gateway';
    return openCall(
      route,
      {
        requestId,
        version,
        path,
        authority,
        tokenField,
        body,
        deadlineMs,
        now: gateway.now(),
        trace: c.get('trace') !== undefined,
      },
      incoming,
      outgoing,
    );
  });
}

/** A version that no worker could take a request for has failed as one that ran and failed: its roll-out has to know. */
async function routed(gateway: Gateway, { version }: SignedManifest, route: Promise<Route>): Promise<Route> {
  try {
    return await route;
  } catch (cause) {
    gateway.rollouts.ended(version, toCfnError(cause).code);
    throw cause;
  }
}

/** Aborts when the caller goes away. */
function left(outgoing: ServerResponse): AbortSignal {
  const gone = new AbortController();
  if (outgoing.destroyed) gone.abort();
  outgoing.once('close', () => gone.abort());
  return gone.signal;
}

/** What every call on a worker needs afterwards, however it ended. */
async function onRoute(
  gateway: Gateway,
  route: Route,
  version: SignedManifest,
  c: AppContext,
  work: (requestId: string, deadlineMs: number) => Promise<Relayed>,
): Promise<Relayed> {
  const { workerId } = route.worker;
  const requestId = c.get('requestId');
  const trace = c.get('trace');
  trace?.routed(workerId);
  const learn = ({ code }: CfnError): void => {
    if (code === 'CFN_WORKER_LOST') gateway.admission.suspect(workerId);
    if (code === 'CFN_FUNCTION_NOT_FOUND') gateway.router.unloaded(workerId, version.version);
  };
  try {
    // Loading can take minutes, and nobody hears of a close that was before.
    if (c.env.outgoing.destroyed) throw new CfnError('CFN_ABORTED', 'the caller went away');
    const result = await work(requestId, version.manifest.limits.wallMs + DEADLINE_MARGIN_MS);
    trace?.timed(result.timings);
    if (result.failure !== undefined && c.env.outgoing.headersSent) learn(result.failure);
    // A call that broke off may have no receipt; one that ended well must.
    if (result.receipt !== undefined || result.failure === undefined) {
      gateway.ledger.record(result.receipt, { requestId, worker: route.worker, version });
    } else {
      gateway.rollouts.ended(version.version, result.failure.code);
    }
    if (result.failure !== undefined && !c.env.outgoing.headersSent) throw result.failure;
    return result;
  } catch (cause) {
    const failure = toCfnError(cause);
    learn(failure);
    if (failure.code !== 'CFN_FUNCTION_NOT_FOUND') throw failure;
    throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the worker has let the function go meanwhile', { cause });
  } finally {
    route.release();
  }
}

/** The function that a URL names, and the rest of it as the function sees it: from the first slash on, with the query. */
function target(c: AppContext): { tenant: string; name: string; path: string } {
  const tenant = nameSchema.safeParse(c.req.param('tenant'));
  const name = nameSchema.safeParse(c.req.param('function'));
  if (!tenant.success) throw new CfnError('CFN_TENANT_NOT_FOUND', 'the path names no tenant');
  if (!name.success) throw new CfnError('CFN_FUNCTION_NOT_FOUND', 'the path names no function');
  const { url } = c.req;
  const prefix = `/f/${tenant.data}/${name.data}`;
  const pathAt = url.indexOf('/', url.indexOf('://') + 3);
  // Names have no characters that need escaping, so an escaped one is a second spelling of the same function.
  if (!url.startsWith(prefix, pathAt)) throw new CfnError('CFN_NOT_FOUND', 'spell tenant and function without escapes');
  const rest = url.slice(pathAt + prefix.length);
  return { tenant: tenant.data, name: name.data, path: rest.startsWith('/') ? rest : `/${rest}` };
}
