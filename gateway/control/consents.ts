import type { Hono } from 'hono';
import { z } from 'zod';
import { consentSubjectSchema } from '../consent.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { jsonBody } from './body.ts';

export const consentRequestSchema = z.strictObject({ subject: consentSubjectSchema, admitted: z.boolean() });

/** What the operator admits; it takes effect with the next call. */
export function consentRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/consents', may('consents:write'), async (c) => {
    const { subject, admitted } = await jsonBody(c, consentRequestSchema, CONTROL_BYTES_MAX);
    await gateway.store.setConsent(subject, admitted);
    c.set('subject', `${subject} ${admitted ? 'admitted' : 'dismissed'}`);
    return c.json({ subject, admitted });
  });

  app.get('/v1/consents', may('consents:read'), async (c) => {
    const consents = [...(await gateway.store.consents())].map(([subject, admitted]) => ({ subject, admitted }));
    return c.json({ consents });
  });
}
