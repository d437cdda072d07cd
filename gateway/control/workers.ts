import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import type { AdmittedWorker } from '../registry.ts';
import { parseAddress } from '../worker-connection.ts';
import { jsonBody } from './body.ts';

export const workerRequestSchema = z.strictObject({ address: z.string().max(300) });

export function workerRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/workers', may('workers:write'), async (c) => {
    const { address } = await jsonBody(c, workerRequestSchema, CONTROL_BYTES_MAX);
    parseAddress(address);
    c.set('subject', address);
    const worker = await gateway.admission.admit(address);
    await gateway.store.addWorkerAddress(address);
    return c.json(described(worker), 201);
  });

  app.get('/v1/workers', may('workers:read'), async (c) => {
    return c.json({ workers: gateway.registry.live().map(described) });
  });

  app.delete('/v1/workers/:id', may('workers:write'), async (c) => {
    const address = gateway.admission.forget(c.req.param('id'));
    if (address === undefined) throw new CfnError('CFN_NOT_FOUND', 'no admitted worker has this id');
    await gateway.store.removeWorkerAddress(address);
    return c.body(null, 204);
  });
}

function described({ workerId, address, tee, simulated, evidenceDigest, leaseEndsAt }: AdmittedWorker): object {
  return { workerId, address, tee, simulated, evidence: evidenceDigest, leaseEndsAt: leaseEndsAt.toISOString() };
}
