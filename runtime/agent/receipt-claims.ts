import { createHash } from 'node:crypto';
import { microseconds, type CfnError, type EgressUse, type ErrorCode, type Receipt } from '../../proto/index.ts';
import type { InvokeHead } from '../../proto/grpc.ts';
import type { EvidenceSource } from './evidence-source.ts';
import type { FunctionHost } from './function-host.ts';
import type { ModelUse } from './model-host.ts';
import type { Claims } from './receipts.ts';
import type { InvocationEnd } from './sandbox-process.ts';

export interface ClaimsDeps {
  readonly keys: { readonly workerId: string };
  readonly evidence: Pick<EvidenceSource, 'tee' | 'admissionDigest'>;
  readonly functions: Pick<FunctionHost, 'find'>;
  readonly now: () => Date;
}

/** What a receipt is to speak of. */
export interface Ended {
  readonly request: Receipt['request'];
  readonly response: Receipt['response'];
  readonly outcome: 'ok' | ErrorCode;
  /** Absent: nothing ran. */
  readonly end?: InvocationEnd | undefined;
  readonly models?: readonly ModelUse[] | undefined;
  readonly egress?: readonly EgressUse[];
  readonly agentBytesOverwritten: number;
}

export function claims(deps: ClaimsDeps, head: InvokeHead, it: Ended): Claims {
  const { tenant = '', name = '' } = deps.functions.find(head.version)?.manifest ?? {};
  const used = it.end?.usage;
  const models = (it.models ?? []).map(({ binding, model, digest, policy }, i) => {
    const { engineMs = 0, engineCalls = 0 } = used?.models[i] ?? {};
    return { binding, model, digest, policy, usage: { engineMs: whole(engineMs), engineCalls } };
  });
  return {
    format: 'cfn/receipt/v1',
    id: head.requestId,
    issuedAt: deps.now().toISOString(),
    worker: deps.keys.workerId,
    tee: deps.evidence.tee,
    evidence: deps.evidence.admissionDigest(),
    function: { tenant, name, version: head.version },
    models,
    request: it.request,
    response: it.response,
    outcome: it.outcome,
    usage: {
      cpuMs: whole(used?.cpuMs ?? 0),
      wallMs: whole(used?.wallMs ?? 0),
      engineMs: whole(models.reduce((sum, { usage }) => sum + usage.engineMs, 0)),
      engineCalls: models.reduce((sum, { usage }) => sum + usage.engineCalls, 0),
    },
    egress: [...(it.egress ?? [])],
    wipe: {
      ...(it.end?.wipe ?? { isolateDisposed: true, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0 }),
      agentBytesOverwritten: it.agentBytesOverwritten,
    },
  };
}

/** A refusal before anything could be sealed: what is known is the code, and the bytes that were read. */
export function refusalClaims(
  deps: ClaimsDeps,
  head: InvokeHead,
  request: Receipt['request'],
  error: CfnError,
): Claims {
  const nothing = createHash('sha256').digest('hex');
  return claims(deps, head, {
    request,
    response: { digest: nothing, bytes: 0, status: error.status },
    outcome: error.code,
    agentBytesOverwritten: 0, // what was opened of it is overwritten, uncounted
  });
}

/** Whole microseconds, in ms. */
const whole = (ms: number): number => microseconds(ms) / 1000;
