import type { AttestationResult } from '../attestation/verifier/index.ts';
import { CfnError } from '../proto/index.ts';
import {
  appraiseDocument,
  fetchAttestation,
  type AppraisedDocument,
  type FetchAttestationOptions,
} from './attestation.ts';
import type { AppraisalPolicy } from '../attestation/verifier/index.ts';

export interface TrustedWorker {
  readonly result: AttestationResult;
  /** When its lease or its keys end, whichever is first; in ms since 1970. */
  readonly provenUntilMs: number;
  /** What the gateway says of its load, if anything: a hint, believed for the choice among workers that all hold. */
  readonly load: { readonly inflight: number; readonly capacity: number } | undefined;
}

/** One appraised attestation document. */
export interface Trusted extends Pick<AppraisedDocument, 'models' | 'versions'> {
  readonly workers: readonly TrustedWorker[];
  readonly attestedAtMs: number;
}

export interface TrustedWorkers {
  /** Those whose proof has not ended. Attests where there is none; callers that come at once share that. */
  current(): Promise<Trusted>;
  /** Attests anew, unless that was done since `seen`. */
  renew(seen: Trusted): Promise<Trusted>;
}

export interface TrustedWorkersOptions extends Omit<FetchAttestationOptions, 'nonce'> {
  readonly policy: AppraisalPolicy;
  readonly now: () => Date;
  readonly version?: string | undefined;
  readonly freshEvidence?: boolean | undefined;
}

/** Attested again, while calls go on, when so much of the proof's time is left. */
const RENEW_AT = 1 / 3;

export function trustedWorkers(options: TrustedWorkersOptions): TrustedWorkers {
  let trusted: Trusted | undefined;
  let attesting: Promise<Trusted> | undefined;
  const nowMs = (): number => options.now().getTime();

  const attestOnce = (): Promise<Trusted> =>
    (attesting ??= attest(options)
      .then((fresh) => (trusted = fresh))
      .finally(() => (attesting = undefined)));

  const live = ({ workers, ...rest }: Trusted): Trusted => ({
    ...rest,
    workers: workers.filter(({ provenUntilMs }) => nowMs() < provenUntilMs),
  });

  return {
    async current() {
      if (trusted !== undefined) {
        const still = live(trusted);
        if (still.workers.length > 0) {
          const endMs = Math.max(...still.workers.map(({ provenUntilMs }) => provenUntilMs));
          const dueMs = endMs - (endMs - trusted.attestedAtMs) * RENEW_AT;
          if (nowMs() >= dueMs) attestOnce().catch(() => undefined); // what holds still does; when it ends, the failure is the answer
          return still;
        }
      }
      const fresh = live(await attestOnce());
      if (fresh.workers.length === 0)
        throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the lease of every worker has ended');
      return fresh;
    },
    async renew(seen) {
      const newer = trusted !== undefined && trusted.attestedAtMs > seen.attestedAtMs;
      return live(newer && trusted !== undefined ? trusted : await attestOnce());
    },
  };
}

/** @throws {CfnError} what the gateway says, and what {@link appraiseDocument} refuses */
async function attest({
  policy,
  version: pinned,
  now,
  freshEvidence,
  ...source
}: TrustedWorkersOptions): Promise<Trusted> {
  const nonce = freshEvidence === true ? crypto.getRandomValues(new Uint8Array(32)) : undefined;
  const document = await fetchAttestation({ ...source, nonce, version: pinned });
  const attestedAt = now();
  const appraised = await appraiseDocument(document, { policy, now: attestedAt, nonce });
  const { manifest, version } = appraised.manifest;
  if (`${manifest.tenant}/${manifest.name}` !== source.function)
    throw new CfnError('CFN_MANIFEST_ALTERED', `the gateway answered for ${manifest.tenant}/${manifest.name}`);
  if (pinned !== undefined && version !== pinned)
    throw new CfnError('CFN_VERSION_MISMATCH', `the gateway serves version ${version}, expected ${pinned}`);
  const listed = new Map(document.workers.map((worker) => [worker.workerId, worker]));
  return {
    models: appraised.models,
    versions: appraised.versions,
    attestedAtMs: attestedAt.getTime(),
    workers: appraised.workers.flatMap((result): TrustedWorker[] => {
      const { leaseEndsAt, load, versions } = listed.get(result.workerId) ?? {};
      if (versions?.includes(version) === false) return []; // it has another version of the split
      const ends = [Date.parse(leaseEndsAt ?? ''), Date.parse(result.workerKeys.notAfter)];
      return [{ result, provenUntilMs: Math.min(...ends.map((ms) => ms || 0)), load }];
    }),
  };
}
