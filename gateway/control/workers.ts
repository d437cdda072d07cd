import { setTimeout as sleep } from 'node:timers/promises';
import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError, memoryNeeds, nameSchema, type SignedManifest } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppContext, AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX, DRAIN_MS_MAX, LIST_MAX } from '../limits.ts';
import type { AdmittedWorker } from '../registry.ts';
import { explainPlacement, type Placement } from '../routing/explain.ts';
import { capacityOf, loadOf, type Member } from '../routing/fleet.ts';
import { parseAddress } from '../worker-connection.ts';
import { jsonBody } from './body.ts';

export const workerRequestSchema = z.strictObject({ address: z.string().max(300) });
export const cordonRequestSchema = z.strictObject({ cordoned: z.boolean() });

/** Function versions that a list of workers explains for each of them. */
const EXPLAINED_MAX = 50;

export function workerRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/workers', may('workers:write'), async (c) => {
    const { address } = await jsonBody(c, workerRequestSchema, CONTROL_BYTES_MAX);
    parseAddress(address);
    c.set('subject', address);
    const worker = await gateway.admission.admit(address);
    await gateway.store.addWorkerAddress(address);
    return c.json(described(gateway, worker), 201);
  });

  // `?why` explains what each worker has; `?why=tenant/function` where that function is, and why not elsewhere.
  app.get('/v1/workers', may('workers:read'), async (c) => {
    const live = gateway.registry.live().slice(0, LIST_MAX);
    const explain = explainer(gateway, c.req.query('why'));
    const workers = await Promise.all(
      live.map(async (worker) => ({ ...described(gateway, worker), ...(await explain(worker.workerId)) })),
    );
    return c.json({ workers });
  });

  app.post('/v1/workers/:id/cordon', may('workers:write'), async (c) => {
    const { cordoned } = await jsonBody(c, cordonRequestSchema, CONTROL_BYTES_MAX);
    const { worker } = admitted(c, gateway);
    gateway.fleet.cordon(worker.workerId, cordoned);
    gateway.log(cordoned ? 'worker.cordoned' : 'worker.uncordoned', { worker: worker.workerId });
    return c.json(described(gateway, worker));
  });

  app.post('/v1/workers/:id/drain', may('workers:write'), async (c) => {
    const { worker, member } = admitted(c, gateway);
    gateway.fleet.cordon(worker.workerId, true);
    const untilMs = gateway.monotonicMs() + DRAIN_MS_MAX;
    while (loadOf(member) > 0) {
      if (gateway.monotonicMs() > untilMs)
        throw new CfnError('CFN_BUSY', `${loadOf(member)} requests are under way still; the worker gets no new ones`);
      await sleep(50);
    }
    await forget(worker.workerId, gateway);
    gateway.log('worker.drained', { worker: worker.workerId });
    return c.json({ workerId: worker.workerId, drained: true });
  });

  app.delete('/v1/workers/:id', may('workers:write'), async (c) => {
    const addresses = await forget(c.req.param('id'), gateway);
    if (addresses.length === 0)
      throw new CfnError('CFN_NOT_FOUND', 'no admitted worker has this id, and none this address');
    return c.body(null, 204);
  });
}

/** Takes a worker out for good, by its id or its address. */
async function forget(idOrAddress: string, { admission, fleet, store }: Gateway): Promise<string[]> {
  const addresses = admission.forget(idOrAddress);
  fleet.cordon(idOrAddress, false); // who adds it again wants it
  for (const address of addresses) await store.removeWorkerAddress(address);
  return addresses;
}

function admitted(c: AppContext, gateway: Gateway): { worker: AdmittedWorker; member: Member } {
  const member = gateway.fleet.member(c.req.param('id') ?? '');
  const worker = member && gateway.fleet.admitted(member);
  if (worker === undefined || member === undefined)
    throw new CfnError('CFN_NOT_FOUND', 'no admitted worker has this id');
  return { worker, member };
}

function described(gateway: Gateway, worker: AdmittedWorker): object {
  const { workerId, address, tee, simulated, evidenceDigest, leaseEndsAt } = worker;
  const member = gateway.fleet.member(workerId);
  return {
    workerId,
    address,
    tee,
    simulated,
    evidence: evidenceDigest,
    leaseEndsAt: leaseEndsAt.toISOString(),
    ...(member === undefined ? {} : status(member)),
  };
}

function status(member: Member): object {
  const { hint, cordoned, warm } = member;
  return {
    state: cordoned ? 'cordoned' : hint?.leaving === true ? 'leaving' : 'serving',
    load: { inflight: loadOf(member), capacity: capacityOf(member) },
    functions: warm.size,
    models: hint?.models.length ?? null,
    memory: hint === undefined ? null : { budget: hint.memoryBudget, free: hint.memoryFree },
  };
}

interface Explained extends Placement {
  readonly function: string;
  readonly version: string;
}

/** @param why `tenant/function`, or empty for all that a worker has or refused; absent: nothing is explained */
function explainer(
  gateway: Gateway,
  why: string | undefined,
): (workerId: string) => Promise<{ placements?: Explained[] }> {
  if (why === undefined) return async () => ({});
  const named = why === '' ? undefined : deployedVersions(gateway, why);
  return async (workerId) => {
    const member = gateway.fleet.member(workerId);
    if (member === undefined) return {};
    const asked = await named;
    const versions = asked?.map(({ version }) => version) ?? [
      ...new Set([...member.warm.keys(), ...member.loading.keys(), ...member.refusals]),
    ];
    const placements: Explained[] = [];
    for (const version of versions.slice(0, EXPLAINED_MAX)) {
      const signed = asked?.find((it) => it.version === version) ?? (await gateway.catalogue.known(version));
      if (signed === undefined) continue;
      const { tenant, name, models } = signed.manifest;
      const packages = await Promise.all(models.map(({ model }) => gateway.store.model(model)));
      const needs = await memoryNeeds(
        signed,
        packages.map((held) => held?.manifest ?? new Uint8Array()),
      );
      const placement = explainPlacement(member, version, needs, gateway.fleet, gateway.monotonicMs());
      placements.push({ function: `${tenant}/${name}`, version, ...placement });
    }
    return { placements };
  };
}

async function deployedVersions(gateway: Gateway, why: string): Promise<SignedManifest[]> {
  const [tenant, name, ...rest] = why.split('/').map((part) => nameSchema.safeParse(part).data);
  if (tenant === undefined || name === undefined || rest.length > 0)
    throw new CfnError('CFN_INPUT_INVALID', 'why: expected tenant/function');
  return (await gateway.catalogue.deployed(tenant, name)).versions.map(({ signed }) => signed);
}
