import type { Hono } from 'hono';
import { z } from 'zod';
import { ERRORS } from '../../proto/index.ts';
import type { AppEnv } from '../context.ts';
import { consentRequestSchema } from './consents.ts';
import { deployRequestSchema } from './functions.ts';
import { tenantRequestSchema } from './tenants.ts';
import { tokenRequestSchema } from './tokens.ts';
import { deploymentRequestSchema, rollbackRequestSchema } from './versions.ts';
import { cordonRequestSchema, workerRequestSchema } from './workers.ts';

interface Operation {
  readonly summary: string;
  readonly roles: readonly string[];
  readonly body?: z.ZodType | string;
  readonly answers?: string;
}

/** Every route of the gateway; a test holds it together with the routes that Hono knows. Keys are `METHOD path`. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  'POST /v1/tenants': { summary: 'Make a tenant', roles: ['operator'], body: tenantRequestSchema },
  'POST /v1/tokens': { summary: 'Make a token for a tenant', roles: ['operator'], body: tokenRequestSchema },
  'GET /v1/blobs/{digest}': {
    summary: 'Read a blob',
    roles: ['operator', 'tenant', 'worker'],
    answers: 'application/octet-stream',
  },
  'PUT /v1/blobs/{digest}': {
    summary: 'Store a blob under its SHA-256',
    roles: ['operator', 'tenant'],
    body: 'application/octet-stream',
  },
  'PATCH /v1/blobs/{digest}': {
    summary: 'Go on with an upload at Upload-Offset, which HEAD tells; when it ends, the blob is whole',
    roles: ['operator', 'tenant'],
    body: 'application/octet-stream',
  },
  'POST /v1/models': {
    summary: 'Add a model package by its manifest',
    roles: ['operator', 'tenant'],
    body: 'application/json',
  },
  'GET /v1/models': { summary: 'List models', roles: ['operator', 'tenant', 'worker'] },
  'GET /v1/models/{owner}/{name}/{version}': {
    summary: 'Exact bytes of a model manifest',
    roles: ['operator', 'tenant', 'worker'],
  },
  'POST /v1/functions/{tenant}/{name}/versions': {
    summary: 'Deploy a version',
    roles: ['operator', 'tenant'],
    body: deployRequestSchema,
  },
  'GET /v1/functions': { summary: 'List functions', roles: ['operator', 'tenant'] },
  'GET /v1/functions/{tenant}/{name}': { summary: 'The current version', roles: ['operator', 'tenant'] },
  'GET /v1/functions/{tenant}/{name}/versions': {
    summary: 'List versions, with the percentage of requests that each gets',
    roles: ['operator', 'tenant'],
  },
  'GET /v1/functions/{tenant}/{name}/versions/{version}': { summary: 'One version', roles: ['operator', 'tenant'] },
  'GET /v1/functions/{tenant}/{name}/deployments': {
    summary: 'List deployments, the newest first',
    roles: ['operator', 'tenant'],
  },
  'POST /v1/functions/{tenant}/{name}/deployments': {
    summary: 'Split requests between versions',
    roles: ['operator', 'tenant'],
    body: deploymentRequestSchema,
  },
  'POST /v1/functions/{tenant}/{name}/rollback': {
    summary: 'Go back to a version, by default the one before',
    roles: ['operator', 'tenant'],
    body: rollbackRequestSchema,
  },
  'POST /v1/workers': { summary: 'Admit the worker at an address', roles: ['operator'], body: workerRequestSchema },
  'GET /v1/workers': {
    summary: 'List admitted workers; ?why or ?why=tenant/function explains what is where',
    roles: ['operator'],
  },
  'POST /v1/workers/{id}/cordon': {
    summary: 'Give a worker no new requests, or give it some again',
    roles: ['operator'],
    body: cordonRequestSchema,
  },
  'POST /v1/workers/{id}/drain': {
    summary: 'Wait until a worker has no request, and take it out',
    roles: ['operator'],
  },
  'DELETE /v1/workers/{id}': { summary: 'Take a worker out and forget its address', roles: ['operator'] },
  'POST /v1/consents': {
    summary: 'Admit or dismiss a function, a model, or all of an owner',
    roles: ['operator'],
    body: consentRequestSchema,
  },
  'GET /v1/consents': { summary: 'List what the operator admitted and dismissed', roles: ['operator'] },
  'GET /v1/usage': {
    summary: 'Sums over receipts, ?by=function, tenant or model, &from= and &to= as starts of hours, &format=csv',
    roles: ['operator', 'tenant'],
  },
  'GET /v1/batches': { summary: 'Sealed hours of the ledger, ?after= an hour', roles: ['operator', 'tenant'] },
  'GET /v1/batches/{hour}/blocks/{block}': {
    summary: "Leaves of a sealed hour: the caller's own receipts, hashes of others",
    roles: ['operator', 'tenant'],
  },
  'GET /v1/openapi.json': { summary: 'This document', roles: [] },
  'GET /.well-known/cfn/attestation': {
    summary: 'Evidence of the workers of ?function=tenant/name, optionally for &nonce=',
    roles: [],
  },
  'GET /.well-known/cfn/results': { summary: "The gateway's attestation results of its workers, as EAR", roles: [] },
  'GET /.well-known/cfn/jwks.json': { summary: 'The public key that signs attestation results', roles: [] },
  'GET /.well-known/cfn/receipts/{id}': { summary: 'The receipt of a request', roles: [], answers: 'application/jose' },
  'GET /.well-known/cfn/receipts/{id}/proof': {
    summary: 'That a receipt is in a sealed hour of the ledger',
    roles: [],
  },
  'GET /.well-known/cfn/manifests/{version}': {
    summary: 'The signed manifest of a function version',
    roles: [],
    answers: 'application/jose',
  },
  'GET /.well-known/cfn/evidence/{digest}': { summary: 'Evidence that a receipt names', roles: [] },
};

export function openapiRoutes(app: Hono<AppEnv>): void {
  const document = openapiDocument();
  app.get('/v1/openapi.json', (c) => c.json(document));
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
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
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

function described(path: string, { summary, roles, body, answers = 'application/json' }: Operation): object {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  return {
    summary,
    parameters: names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
    security: roles.length === 0 ? [] : [{ bearer: roles }],
    ...(body === undefined ? {} : { requestBody: { required: true, content: content(body) } }),
    responses: {
      '2XX': { description: 'done', content: { [answers]: {} } },
      default: { $ref: '#/components/responses/problem' },
    },
  };
}

function content(body: z.ZodType | string): object {
  return typeof body === 'string' ? { [body]: {} } : { 'application/json': { schema: z.toJSONSchema(body) } };
}
