import type { Hono } from 'hono';
import { CfnError, digestSchema, fromHex, nameSchema, toBase64url, toCfnError, type Evidence } from '../proto/index.ts';
import type { AppContext, AppEnv, Gateway } from './context.ts';
import { CALLER_NONCES_PER_SECOND } from './limits.ts';
import type { AdmittedWorker } from './registry.ts';

/** One worker in the attestation document. */
interface WorkerEntry {
  readonly workerId: string;
  /** The nonce that the evidence answers, hexadecimal: the caller's own, or the one of admission. */
  readonly nonce: string;
  readonly evidence: Evidence;
  /** RFC 3339, UTC. */
  readonly leaseEndsAt: string;
}

/** What callers appraise for themselves (design §4), and what they check receipts with. Public: none of it is secret. */
export function attestationRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const allow = rateLimit(CALLER_NONCES_PER_SECOND, gateway.monotonicMs);

  app.get('/.well-known/cfn/attestation', async (c) => {
    const { tenant, name } = functionOf(c);
    const nonce = nonceOf(c);
    const { manifest, version, jws } = await gateway.catalogue.current(tenant, name);
    const models = await Promise.all(
      manifest.models.map(async ({ model, digest }) => {
        const held = await gateway.store.model(model);
        if (held?.digest !== digest)
          throw new CfnError('CFN_MODEL_NOT_FOUND', `model ${model} with digest ${digest} is not in the catalogue`);
        return toBase64url(held.manifest);
      }),
    );
    const live = gateway.registry.live();
    if (nonce !== undefined && !allow()) {
      throw new CfnError(
        'CFN_BUSY',
        `at most ${CALLER_NONCES_PER_SECOND} challenges with a caller's nonce a second; ask without a nonce`,
      );
    }
    const workers = nonce === undefined ? live.map(fromAdmission) : await challengeAll(gateway, live, nonce);
    return c.json(
      { function: { tenant, name, version, manifest: jws }, models, workers, policy: gateway.policy },
      200,
      {
        'cache-control': 'no-store',
      },
    );
  });

  // For relying parties that take this gateway's word and do not appraise: what it made of each worker, as EAR.
  app.get('/.well-known/cfn/results', (c) => {
    const workers = gateway.registry.live().map(({ workerId, result }) => ({ workerId, result }));
    return c.json({ workers, policy: gateway.policy }, 200, { 'cache-control': 'no-store' });
  });

  // Whoever relies on results pins this key, got from the operator and not from the gateway at the same moment.
  app.get('/.well-known/cfn/jwks.json', (c) => c.json({ keys: [gateway.resultKey] }));

  app.get('/.well-known/cfn/receipts/:id', async (c) => {
    const id = c.req.param('id');
    const jws = /^[0-9a-f]{32}$/.test(id) ? await gateway.ledger.receipt(id) : undefined;
    if (jws === undefined) throw new CfnError('CFN_RECEIPT_NOT_FOUND', 'no receipt has this request id');
    return c.body(jws, 200, { 'content-type': 'application/jose' });
  });

  app.get('/.well-known/cfn/receipts/:id/proof', async (c) => {
    const id = c.req.param('id');
    if (!/^[0-9a-f]{32}$/.test(id)) throw new CfnError('CFN_RECEIPT_NOT_FOUND', 'no receipt has this request id');
    return c.json(await gateway.batches.proof(id));
  });

  app.get('/.well-known/cfn/manifests/:version', async (c) => {
    const version = digestSchema.safeParse(c.req.param('version'));
    const found = version.success ? await gateway.store.version(version.data) : undefined;
    if (found === undefined) throw new CfnError('CFN_NOT_FOUND', 'no function version has this digest');
    return c.body(found.jws, 200, { 'content-type': 'application/jose' });
  });

  app.get('/.well-known/cfn/evidence/:digest', async (c) => {
    const digest = digestSchema.safeParse(c.req.param('digest'));
    const json = digest.success ? await gateway.store.evidence(digest.data) : undefined;
    if (json === undefined) throw new CfnError('CFN_NOT_FOUND', 'no evidence has this digest');
    return c.body(json, 200, { 'content-type': 'application/json' });
  });
}

function fromAdmission({ workerId, nonce, evidence, leaseEndsAt }: AdmittedWorker): WorkerEntry {
  return { workerId, nonce, evidence, leaseEndsAt: leaseEndsAt.toISOString() };
}

/** Fresh evidence of every worker for the caller's nonce. A worker that does not answer is left out; the caller cannot use it. */
async function challengeAll(gateway: Gateway, live: readonly AdmittedWorker[], nonce: string): Promise<WorkerEntry[]> {
  const bytes = fromHex(nonce);
  const entries = await Promise.all(
    live.map(async (worker): Promise<WorkerEntry | undefined> => {
      try {
        const evidence = await gateway.admission.connection(worker.workerId)?.evidence(bytes, false);
        return evidence && { ...fromAdmission(worker), nonce, evidence };
      } catch (cause) {
        gateway.log('worker.silent', { worker: worker.workerId, code: toCfnError(cause).code });
        gateway.admission.suspect(worker.workerId);
        return undefined;
      }
    }),
  );
  return entries.filter((entry) => entry !== undefined);
}

function functionOf(c: AppContext): { tenant: string; name: string } {
  const [tenant, name, ...rest] = (c.req.query('function') ?? '').split('/');
  if (!nameSchema.safeParse(tenant).success || !nameSchema.safeParse(name).success || rest.length > 0) {
    throw new CfnError('CFN_INPUT_INVALID', 'function: expected tenant/name');
  }
  return { tenant: tenant ?? '', name: name ?? '' };
}

function nonceOf(c: AppContext): string | undefined {
  const nonce = c.req.query('nonce');
  if (nonce !== undefined && !/^[0-9a-f]{64}$/.test(nonce))
    throw new CfnError('CFN_INPUT_INVALID', 'nonce: expected 32 bytes as lower-case hexadecimal');
  return nonce;
}

/** A bucket that holds two seconds' worth. */
function rateLimit(perSecond: number, monotonicMs: () => number): () => boolean {
  const capacity = perSecond * 2;
  let tokens = capacity;
  let last = monotonicMs();
  return () => {
    const nowMs = monotonicMs();
    tokens = Math.min(capacity, tokens + ((nowMs - last) / 1000) * perSecond);
    last = nowMs;
    if (tokens < 1) return false;
    tokens--;
    return true;
  };
}
