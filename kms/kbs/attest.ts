import type { z } from 'zod';
import {
  CfnError,
  KBS_VERSION,
  chooseKbsHash,
  teePubkeyDigest,
  toCfnError,
  type KbsHash,
  type kbsAttestationSchema,
  type kbsRequestSchema,
} from '../../proto/index.ts';
import type { ClientResult } from '../../attestation/verifier/index.ts';
import type { KmsDeps } from '../deps.ts';
import { requireNonce, type AttestedSession } from './sessions.ts';

/** What of an appraisal is kept for a session: little, as there are many sessions. */
export interface Attested {
  /** In whose namespace; `''`: nobody's. */
  readonly owner: string;
  readonly tee: ClientResult['tee'];
  readonly claims: {
    readonly tdx: { readonly mrtd: string; readonly rtmrs: readonly string[] } | undefined;
    readonly snp: { readonly measurement: string } | undefined;
    readonly gpus: readonly { readonly family: string }[];
  };
  /** Digest of the appraisal policy. */
  readonly policy: string;
  /** SHA-256 of the client's key: its name in audit logs. */
  readonly client: string;
}

export interface Challenge {
  readonly id: string;
  readonly nonce: string;
  readonly expiresAt: number;
  /** When the client said which it has. */
  readonly hash: KbsHash | undefined;
}

/**
 * Answers a request with a challenge.
 *
 * @param owner in whose namespace it asks, when the URL says; one that there is not is nobody's
 * @throws {CfnError} `CFN_INPUT_INVALID` for another version of the protocol
 */
export async function challenge(
  request: z.infer<typeof kbsRequestSchema>,
  owner: string | undefined,
  { kbs, store }: Pick<KmsDeps, 'kbs' | 'store'>,
): Promise<Challenge> {
  if (request.version !== KBS_VERSION)
    throw new CfnError(
      'CFN_INPUT_INVALID',
      `the client speaks version ${request.version} of the protocol; supported: ${KBS_VERSION}`,
    );
  const hash = chooseKbsHash(request['extra-params']);
  const known = owner !== undefined && (await store.owner(owner)) !== undefined ? owner : undefined;
  return { ...kbs.sessions.open({ tee: request.tee, hash: hash ?? 'sha384', owner: known }), hash };
}

/**
 * Appraises a client's evidence: by the policy of the namespace that it asks in, or else by the KMS's own. The nonce is used up.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID`, `CFN_NONCE_MISMATCH`, what {@link KmsDeps.appraiseClient} throws
 */
export async function attest(
  id: string,
  { 'runtime-data': runtime, 'tee-evidence': evidence }: z.infer<typeof kbsAttestationSchema>,
  deps: KmsDeps,
): Promise<AttestedSession> {
  let owner = '';
  let client: string | undefined;
  try {
    const session = deps.kbs.sessions.take(id);
    if ('token' in session) return session;
    requireNonce(session, runtime.nonce);
    owner = session.owner ?? '';
    const { policy, digest } = await deps.policies.of(session.owner);
    const teePubkey = runtime['tee-pubkey'];
    const result = await deps.kbs.appraiseClient(
      {
        tee: session.tee,
        primary: evidence.primary_evidence,
        additional: evidence.additional_evidence,
        binding: { nonce: session.nonce, teePubkey, hash: session.hash },
      },
      { policy, now: deps.now(), endorse: deps.kbs.endorse },
    );
    client = await teePubkeyDigest(teePubkey); // bound by the evidence only now
    return await deps.kbs.sessions.attested(id, teePubkey, kept(result, { owner, policy: digest, client }));
  } catch (error) {
    await deps.refusals.note(owner, toCfnError(error).code, client === undefined ? {} : { worker: client });
    throw error;
  }
}

function kept(
  { tee, claims: { tdx, snp, gpus } }: ClientResult,
  of: Pick<Attested, 'owner' | 'policy' | 'client'>,
): Attested {
  return {
    tee,
    claims: {
      tdx: tdx && { mrtd: tdx.mrtd, rtmrs: tdx.rtmrs },
      snp: snp && { measurement: snp.measurement },
      gpus: gpus.map(({ family }) => ({ family })),
    },
    ...of,
  };
}
