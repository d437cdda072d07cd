import type { Hono } from 'hono';
import { z } from 'zod';
import { consentSubjectSchema } from '../consent.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { requireRole } from '../tokens.ts';
import { authenticate } from './authentication.ts';
import { jsonBody } from './body.ts';

export const consentRequestSchema = z.strictObject({ subject: consentSubjectSchema, admitted: z.boolean() });

/** What the operator admits; it takes effect with the next call. */
export function consentRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.post('/v1/consents', async (c) => {
    requireRole(await authenticate(c, gateway), 'operator');
    const { subject, admitted } = await jsonBody(c, consentRequestSchema, CONTROL_BYTES_MAX);
    await gateway.store.setConsent(subject, admitted);
    gateway.log('consent.set', { subject, admitted: String(admitted) });
    return c.json({ subject, admitted });
  });

  app.get('/v1/consents', async (c) => {
    requireRole(await authenticate(c, gateway), 'operator');
    const consents = [...(await gateway.store.consents())].map(([subject, admitted]) => ({ subject, admitted }));
    return c.json({ consents });
  });
}
