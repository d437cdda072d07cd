import { Hono, type Context } from 'hono';
import { routePath } from 'hono/route';
import {
  CfnError,
  KBS_COOKIE,
  kbsAttestationSchema,
  kbsRequestSchema,
  nameSchema,
  parseResourcePath,
  toCfnError,
} from '../../proto/index.ts';
import type { KmsDeps } from '../deps.ts';
import { readJson } from '../http.ts';
import { KBS_BODY_BYTES_MAX, RELEASES_INFLIGHT_MAX, SMALL_BODY_BYTES_MAX } from '../limits.ts';
import { attest, challenge } from './attest.ts';
import { kbsRefusal } from './errors.ts';
import { releaseResource } from './release-resource.ts';
import type { AttestedSession } from './sessions.ts';

const RESOURCE_ROUTE = '/resource/:repository/:type/:tag';

/**
 * The key broker protocol (`proto/kbs.ts`), for clients that exist: below `/kbs/v0`, and for the clients of one owner below
 * `/owners/NAME/kbs/v0`, where that owner's appraisal policy counts.
 */
export function kbsRoutes(deps: KmsDeps): Hono {
  const app = new Hono();
  let appraisals = 0;
  function demandRoom(): void {
    if (appraisals >= RELEASES_INFLIGHT_MAX)
      throw new CfnError('CFN_BUSY', `${RELEASES_INFLIGHT_MAX} appraisals are under way`);
  }

  // By the route that matched: an owner may be named like a step.
  app.onError((error, c) =>
    kbsRefusal(toCfnError(error), routePath(c).endsWith(RESOURCE_ROUTE) ? 'resource' : 'attestation'),
  );
  app.post('/auth', async (c) => {
    const request = await readJson(c, kbsRequestSchema, SMALL_BODY_BYTES_MAX);
    const { id, nonce, expiresAt, hash } = await challenge(
      request,
      nameSchema.safeParse(c.req.param('owner')).data,
      deps,
    );
    setCookie(c, id, expiresAt);
    return c.json({ nonce, 'extra-params': hash === undefined ? '' : { 'selected-hash-algorithm': hash } });
  });
  app.post('/attest', async (c) => {
    const id = sessionOf(c);
    if (id === undefined) throw new CfnError('CFN_CHALLENGE_INVALID', `expected the cookie ${KBS_COOKIE} of /auth`);
    demandRoom(); // before evidence is held for nothing
    const attestation = await readJson(c, kbsAttestationSchema, KBS_BODY_BYTES_MAX);
    demandRoom(); // others came while this one was read
    appraisals++;
    try {
      const { token, expiresAt } = await attest(id, attestation, deps);
      setCookie(c, id, expiresAt);
      return c.json({ token });
    } finally {
      appraisals--;
    }
  });
  app.get(RESOURCE_ROUTE, async (c) => {
    const { repository, type, tag } = c.req.param();
    const key = parseResourcePath(repository, type, tag);
    return c.json(await releaseResource(key, attestedOf(c, deps), deps));
  });
  app.all('*', () => {
    throw new CfnError('CFN_NOT_FOUND', 'expected /auth, /attest or /resource/REPOSITORY/TYPE/TAG');
  });
  return app;
}

/** By cookie, or by bearer token (passport). @throws {CfnError} `CFN_TOKEN_INVALID`, `CFN_CHALLENGE_INVALID` */
function attestedOf(c: Context, { kbs }: KmsDeps): AttestedSession {
  const id = sessionOf(c);
  if (id !== undefined) return kbs.sessions.ofCookie(id);
  const token = /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(
    c.req.header('authorization') ?? '',
  )?.[1];
  if (token === undefined) throw new CfnError('CFN_TOKEN_INVALID', 'expected the cookie of a session, or a token');
  return kbs.sessions.ofToken(token);
}

/** The one session that the client names. Two of them, or another form, are none. */
function sessionOf(c: Context): string | undefined {
  const cookies = (c.req.header('cookie') ?? '').split(';').map((cookie) => cookie.trim());
  const [own, another] = cookies.filter((cookie) => cookie.startsWith(`${KBS_COOKIE}=`));
  const id = own?.slice(KBS_COOKIE.length + 1) ?? '';
  return another === undefined && /^[0-9a-f]{32}$/.test(id) ? id : undefined;
}

/** Without `Secure`: TLS ends in front of the service, and clients would not send it back over plain HTTP inside a machine. */
function setCookie(c: Context, id: string, expiresAt: number): void {
  const until = new Date(expiresAt).toUTCString();
  c.header('set-cookie', `${KBS_COOKIE}=${id}; HttpOnly; SameSite=Strict; Expires=${until}`);
}
