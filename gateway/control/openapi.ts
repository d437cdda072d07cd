import type { Hono } from 'hono';
import { z } from 'zod';
import { ERRORS } from '../../proto/index.ts';
import { anybody } from '../access/guard.ts';
import { ACCESS, type Action } from '../access/roles.ts';
import type { AppEnv } from '../context.ts';
import { tenantLimitsSchema } from '../quota/tenant-limits.ts';
import { consentRequestSchema } from './consents.ts';
import { deployRequestSchema } from './functions.ts';
import { keyRequestSchema } from './keys.ts';
import { tenantRequestSchema } from './tenants.ts';
import { tokenRequestSchema } from './tokens.ts';
import { deploymentRequestSchema, rollbackRequestSchema } from './versions.ts';
import { cordonRequestSchema, workerRequestSchema } from './workers.ts';

interface Operation {
  readonly summary: string;
  readonly action: Action | 'anybody';
  readonly body?: z.ZodType | string;
  readonly answers?: string;
}

/** Every route of the gateway; a test holds it together with the routes that Hono knows. Keys are `METHOD path`. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'POST /v1/tenants': { summary: 'Make a tenant', action: 'tenants:write', body: tenantRequestSchema },
  'GET /v1/tenants': { summary: 'List tenants', action: 'tenants:read' },
  'PUT /v1/tenants/{tenant}/limits': {
    summary: 'Set what a tenant may use, in place of what was set before',
    action: 'limits:write',
    body: tenantLimitsSchema,
  },
  'GET /v1/tenants/{tenant}/limits': { summary: 'What a tenant may use, and has used', action: 'limits:read' },
  'POST /v1/keys': { summary: 'Make an API key; it is shown this once', action: 'keys:write', body: keyRequestSchema },
  'GET /v1/keys': { summary: 'List API keys, without their secrets', action: 'keys:read' },
  'DELETE /v1/keys/{id}': { summary: 'Revoke an API key', action: 'keys:write' },
  'POST /v1/tokens': { summary: 'Make a token for a tenant', action: 'tokens:write', body: tokenRequestSchema },
  'GET /v1/blobs/{digest}': {
    summary: 'Read a blob',
    action: 'blobs:read',
    answers: 'application/octet-stream',
  },
  'PUT /v1/blobs/{digest}': {
    summary: 'Store a blob under its SHA-256',
    action: 'blobs:write',
    body: 'application/octet-stream',
  },
  'PATCH /v1/blobs/{digest}': {
    summary: 'Go on with an upload at Upload-Offset, which HEAD tells; when it ends, the blob is whole',
    action: 'blobs:write',
    body: 'application/octet-stream',
  },
  'POST /v1/models': {
    summary: 'Add a model package by its manifest',
    action: 'models:write',
    body: 'application/json',
  },
  'GET /v1/models': { summary: 'List models', action: 'models:read' },
  'GET /v1/models/{owner}/{name}/{version}': {
    summary: 'Exact bytes of a model manifest',
    action: 'models:read',
  },
  'POST /v1/functions/{tenant}/{name}/versions': {
    summary: 'Deploy a version',
    action: 'functions:write',
    body: deployRequestSchema,
  },
  'GET /v1/functions': { summary: 'List functions', action: 'functions:read' },
  'GET /v1/functions/{tenant}/{name}': { summary: 'The current version', action: 'functions:read' },
  'GET /v1/functions/{tenant}/{name}/versions': {
    summary: 'List versions, with the percentage of requests that each gets',
    action: 'functions:read',
  },
  'GET /v1/functions/{tenant}/{name}/versions/{version}': { summary: 'One version', action: 'functions:read' },
  'GET /v1/functions/{tenant}/{name}/deployments': {
    summary: 'List deployments, the newest first',
    action: 'functions:read',
  },
  'POST /v1/functions/{tenant}/{name}/deployments': {
    summary: 'Split requests between versions',
    action: 'functions:write',
    body: deploymentRequestSchema,
  },
  'POST /v1/functions/{tenant}/{name}/rollback': {
    summary: 'Go back to a version, by default the one before',
    action: 'functions:write',
    body: rollbackRequestSchema,
  },
  'POST /v1/workers': { summary: 'Admit the worker at an address', action: 'workers:write', body: workerRequestSchema },
  'GET /v1/workers': {
    summary: 'List admitted workers; ?why or ?why=tenant/function explains what is where',
    action: 'workers:read',
  },
  'POST /v1/workers/{id}/cordon': {
    summary: 'Give a worker no new requests, or give it some again',
    action: 'workers:write',
    body: cordonRequestSchema,
  },
  'POST /v1/workers/{id}/drain': {
    summary: 'Wait until a worker has no request, and take it out',
    action: 'workers:write',
  },
  'DELETE /v1/workers/{id}': {
    summary: 'Take a worker out, by its id or address, and forget where it is',
    action: 'workers:write',
  },
  'POST /v1/consents': {
    summary: 'Admit or dismiss a function, a model, or all of an owner',
    action: 'consents:write',
    body: consentRequestSchema,
  },
  'GET /v1/consents': { summary: 'List what the operator admitted and dismissed', action: 'consents:read' },
  'GET /v1/usage': {
    summary: 'Sums over receipts, ?by=function, tenant or model, &from= and &to= as starts of hours, &format=csv',
    action: 'usage:read',
  },
  'GET /v1/batches': { summary: 'Sealed hours of the ledger, ?after= an hour', action: 'usage:read' },
  'GET /v1/batches/{hour}/blocks/{block}': {
    summary: "Leaves of a sealed hour: the caller's own receipts, hashes of others",
    action: 'usage:read',
  },
  'GET /v1/openapi.json': { summary: 'This document', action: 'anybody' },
  'GET /.well-known/cfn/attestation': {
    summary: 'Evidence of the workers of ?function=tenant/name, optionally for &nonce=',
    action: 'anybody',
  },
  'GET /.well-known/cfn/results': {
    summary: "The gateway's attestation results of its workers, as EAR",
    action: 'anybody',
  },
  'GET /.well-known/cfn/jwks.json': { summary: 'The public key that signs attestation results', action: 'anybody' },
  'GET /.well-known/cfn/receipts/{id}': {
    summary: 'The receipt of a request',
    action: 'anybody',
    answers: 'application/jose',
  },
  'GET /.well-known/ohttp-gateway': {
    summary: "A worker's OHTTP key configurations, ?worker= its id: a hint, which its evidence proves",
    action: 'anybody',
    answers: 'application/ohttp-keys',
  },
  'GET /.well-known/cfn/receipts/{id}/proof': {
    summary: 'That a receipt is in a sealed hour of the ledger',
    action: 'anybody',
  },
  'GET /.well-known/cfn/manifests/{version}': {
    summary: 'The signed manifest of a function version',
    action: 'anybody',
    answers: 'application/jose',
  },
  'GET /.well-known/cfn/evidence/{digest}': { summary: 'Evidence that a receipt names', action: 'anybody' },
};

export function openapiRoutes(app: Hono<AppEnv>): void {
  const document = openapiDocument();
  app.get('/v1/openapi.json', anybody, (c) => c.json(document));
}

export function openapiDocument(): { openapi: string; paths: Record<string, Record<string, object>> } & Record<
  string,
  unknown
> {
  const paths: Record<string, Record<string, object>> = {};
  for (const [key, operation] of Object.entries(OPERATIONS)) {
    const [method = '', path = ''] = key.split(' ');
    (paths[path] ??= {})[method.toLowerCase()] = described(path, operation);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'cfn gateway',
      version: '1',
      description: 'Control plane. Invocation is at /f/{tenant}/{function}/{path}.',
    },
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT or API key' } },
      responses: {
        problem: {
          description: 'RFC 9457 problem with a stable code',
          content: {
            'application/problem+json': {
              schema: {
                type: 'object',
                required: ['type', 'title', 'status', 'detail', 'code', 'remedy'],
                properties: {
                  code: { enum: Object.keys(ERRORS) },
                  status: { type: 'integer' },
                  detail: { type: 'string' },
                },
              },
            },
          },
        },
      },
    },
  };
}

function described(path: string, { summary, action, body, answers = 'application/json' }: Operation): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  return {
    summary,
    parameters: names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
    security: action === 'anybody' ? [] : [{ bearer: ACCESS[action] }],
    'x-cfn-action': action,
    ...(body === undefined ? {} : { requestBody: { required: true, content: content(body) } }),
    responses: {
      '2XX': { description: 'done', content: { [answers]: {} } },
      default: { $ref: '#/components/responses/problem' },
    },
  };
}

function content(body: z.ZodType | string): object {
  return typeof body === 'string'
    ? { [body]: {} }
    : { 'application/json': { schema: z.toJSONSchema(body, { io: 'input' }) } };
}
