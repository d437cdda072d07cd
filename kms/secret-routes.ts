import type { Context, Hono } from 'hono';
import {
  nameSchema,
  putSecretsSchema,
  secretNameSchema,
  secretsRequestSchema,
  type SecretsRequest,
} from '../proto/index.ts';
import type { KmsDeps } from './deps.ts';
import { deleteSecret, listSecrets, putSecrets, type FunctionKey } from './function-secrets.ts';
import { parseInput, readJson } from './http.ts';
import { RELEASE_BODY_BYTES_MAX, SECRETS_BODY_BYTES_MAX } from './limits.ts';
import { releaseSecrets } from './secret-release.ts';

/** Answers with what an appraisal leads to. */
export type Appraised = (
  c: Context,
  request: Pick<SecretsRequest, 'challenge' | 'answerKey'>,
  work: () => Promise<object>,
) => Promise<Response>;

/** The routes of function secrets. @param gates who may ask what, as the other routes have it */
export function secretRoutes(
  app: Hono,
  deps: KmsDeps,
  gates: {
    readonly owner: (authorization: string | undefined) => Promise<string>;
    readonly reader: (authorization: string | undefined) => Promise<string>;
    readonly appraised: Appraised;
  },
): void {
  const path = '/v1/functions/:tenant/:function/secrets';
  const keyOf = (owner: string, tenant: string, name: string): FunctionKey => ({
    owner,
    tenant: parseInput(nameSchema, tenant, 'tenant'),
    function: parseInput(nameSchema, name, 'function'),
  });

  app.post('/v1/secrets', async (c) => {
    const request = await readJson(c, secretsRequestSchema, RELEASE_BODY_BYTES_MAX);
    return gates.appraised(c, request, () => releaseSecrets(request, deps));
  });
  app.put(path, async (c) => {
    const owner = await gates.owner(c.req.header('authorization'));
    const put = await readJson(c, putSecretsSchema, SECRETS_BODY_BYTES_MAX);
    const key = keyOf(owner, c.req.param('tenant'), c.req.param('function'));
    return c.json({ leasesRevoked: await putSecrets(key, put, deps) });
  });
  app.get(path, async (c) => {
    const owner = await gates.reader(c.req.header('authorization'));
    const secrets = await listSecrets(keyOf(owner, c.req.param('tenant'), c.req.param('function')), deps);
    return c.json({
      secrets: secrets.map(({ name, author, version, leaseMs, storedAt }) => ({
        name,
        author,
        version,
        leaseMs,
        storedAt: new Date(storedAt).toISOString(),
      })),
    });
  });
  app.delete(`${path}/:name`, async (c) => {
    const owner = await gates.owner(c.req.header('authorization'));
    const name = parseInput(secretNameSchema, c.req.param('name'), 'name');
    const key = keyOf(owner, c.req.param('tenant'), c.req.param('function'));
    return c.json({ leasesRevoked: await deleteSecret(key, name, deps) });
  });
}
