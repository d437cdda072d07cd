import type { Hono } from 'hono';
import {
  CfnError,
  digestSchema,
  fromHex,
  nameSchema,
  toBase64url,
  toCfnError,
  toHex,
  type Evidence,
  type SignedManifest,
} from '../proto/index.ts';
import { anybody } from './access/guard.ts';
import type { Deployed } from './catalogue.ts';
import type { AppContext, AppEnv, Gateway } from './context.ts';
import { CALLER_NONCES_PER_SECOND } from './limits.ts';
import type { AdmittedWorker } from './registry.ts';
import { capacityOf, loadOf, type Member } from './routing/fleet.ts';
import { deployedVersion } from './version-choice.ts';

/** One worker in the attestation document. */
interface WorkerEntry {
  readonly workerId: string;
  /** The nonce that the evidence answers, hexadecimal: `callerNonce` of the caller's own, or the `channelNonce` of admission. */
  readonly nonce: string;
  readonly evidence: Evidence;
  /** RFC 3339, UTC. */
  readonly leaseEndsAt: string;
  /** Requests under way, and at once at most: a hint for choosing among workers. */
  readonly load: { readonly inflight: number; readonly capacity: number };
  /** Which of the document's versions a request may be sealed to it for. Absent: the one that there is. */
  readonly versions?: readonly string[];
}

/** What callers appraise for themselves (design §4), and what they check receipts with. Public: none of it is secret. */
export function attestationRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const allow = rateLimit(CALLER_NONCES_PER_SECOND, gateway.monotonicMs);

  app.get('/.well-known/cfn/attestation', anybody, async (c) => {
    const { tenant, name } = functionOf(c);
    const nonce = nonceOf(c);
    const deployed = await gateway.catalogue.deployed(tenant, name);
    const { function: it, versions, signed } = offered(deployed, c.req.query('version'));
    const models = await modelManifests(gateway, signed);
    const listed = await workersOf(gateway, signed);
    if (nonce !== undefined && !allow()) {
      throw new CfnError(
        'CFN_BUSY',
        `at most ${CALLER_NONCES_PER_SECOND} challenges with a caller's nonce a second; ask without a nonce`,
      );
    }
    const workers = nonce === undefined ? listed : await challengeAll(gateway, listed, nonce);
    return c.json({ function: it, ...versions, models, workers, policy: gateway.policy }, 200, {
      'cache-control': 'no-store',
    });
  });

  // For relying parties that take this gateway's word and do not appraise: what it made of each worker, as EAR.
  app.get('/.well-known/cfn/results', anybody, (c) => {
    const workers = gateway.registry.live().map(({ workerId, result }) => ({ workerId, result }));
    return c.json({ workers, policy: gateway.policy }, 200, { 'cache-control': 'no-store' });
  });

  // Whoever relies on results pins this key, got from the operator and not from the gateway at the same moment.
  app.get('/.well-known/cfn/jwks.json', anybody, (c) => c.json({ keys: [gateway.resultKey] }));

  app.get('/.well-known/cfn/receipts/:id', anybody, async (c) => {
    const id = c.req.param('id');
    const jws = /^[0-9a-f]{32}$/.test(id) ? await gateway.ledger.receipt(id) : undefined;
    if (jws === undefined) throw new CfnError('CFN_RECEIPT_NOT_FOUND', 'no receipt has this request id');
    return c.body(jws, 200, { 'content-type': 'application/jose' });
  });

  app.get('/.well-known/cfn/receipts/:id/proof', anybody, async (c) => {
    const id = c.req.param('id');
    if (!/^[0-9a-f]{32}$/.test(id)) throw new CfnError('CFN_RECEIPT_NOT_FOUND', 'no receipt has this request id');
    return c.json(await gateway.batches.proof(id));
  });

  app.get('/.well-known/cfn/manifests/:version', anybody, async (c) => {
    const version = digestSchema.safeParse(c.req.param('version'));
    const found = version.success ? await gateway.store.version(version.data) : undefined;
    if (found === undefined) throw new CfnError('CFN_NOT_FOUND', 'no function version has this digest');
    return c.body(found.jws, 200, { 'content-type': 'application/jose' });
  });

  app.get('/.well-known/cfn/evidence/:digest', anybody, async (c) => {
    const digest = digestSchema.safeParse(c.req.param('digest'));
    const json = digest.success ? await gateway.store.evidence(digest.data) : undefined;
    if (json === undefined) throw new CfnError('CFN_NOT_FOUND', 'no evidence has this digest');
    return c.body(json, 200, { 'content-type': 'application/json' });
  });
}

/** What a document says of the function: the version that was asked for, or all that are deployed, for the caller to choose one. */
function offered(
  deployed: Deployed,
  asked: string | undefined,
): { function: object; versions: { versions?: object[] }; signed: SignedManifest[] } {
  const { tenant, name } = deployed;
  const { version, jws } = deployedVersion(deployed, asked);
  const isSplit = asked === undefined && deployed.versions.length > 1;
  const all = isSplit ? deployed.versions : deployed.versions.filter((it) => it.version === version);
  const versions = all.map(({ percent, signed }) => ({ version: signed.version, percent, manifest: signed.jws }));
  return {
    function: { tenant, name, version, manifest: jws },
    versions: isSplit ? { versions } : {},
    signed: all.map(({ signed }) => signed),
  };
}

/** Exact bytes of the manifests of all models that the versions use, each once. */
async function modelManifests(gateway: Gateway, versions: readonly SignedManifest[]): Promise<string[]> {
  const used = new Map(versions.flatMap(({ manifest }) => manifest.models).map(({ model, digest }) => [digest, model]));
  return Promise.all(
    [...used].map(async ([digest, model]) => {
      const held = await gateway.store.model(model);
      if (held?.digest !== digest)
        throw new CfnError('CFN_MODEL_NOT_FOUND', `model ${model} with digest ${digest} is not in the catalogue`);
      return toBase64url(held.manifest);
    }),
  );
}

/** The workers for these versions; each once, with those that it is for where there are several. */
async function workersOf(gateway: Gateway, versions: readonly SignedManifest[]): Promise<WorkerEntry[]> {
  const entries = new Map<string, WorkerEntry>();
  for (const signed of versions) {
    for (const member of await gateway.router.candidates(signed)) {
      const worker = gateway.fleet.admitted(member);
      if (worker === undefined) continue;
      const entry = entries.get(member.workerId) ?? fromAdmission(worker, member);
      const some = versions.length > 1 ? { versions: [...(entry.versions ?? []), signed.version] } : {};
      entries.set(member.workerId, { ...entry, ...some });
    }
  }
  return [...entries.values()];
}

function fromAdmission({ workerId, nonce, evidence, leaseEndsAt }: AdmittedWorker, member: Member): WorkerEntry {
  const load = { inflight: loadOf(member), capacity: capacityOf(member) };
  return { workerId, nonce, evidence, leaseEndsAt: leaseEndsAt.toISOString(), load };
}

/** Fresh evidence of every worker for the caller's nonce. A worker that does not answer is left out; the caller cannot use it. */
async function challengeAll(gateway: Gateway, listed: readonly WorkerEntry[], nonce: string): Promise<WorkerEntry[]> {
  const bytes = fromHex(nonce);
  const entries = await Promise.all(
    listed.map(async (worker): Promise<WorkerEntry | undefined> => {
      try {
        const challenged = await gateway.admission.connection(worker.workerId)?.evidence(bytes, false);
        return challenged && { ...worker, nonce: toHex(challenged.nonce), evidence: challenged.evidence };
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
