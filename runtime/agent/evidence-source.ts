import type { Attester, BoundEvidence, EvidenceBinding } from '../../attestation/attester/index.ts';
import { evidenceDigest, type Evidence } from '../../proto/index.ts';

/** Evidence for this worker's keys. Quotes are made one at a time: a VM has one quoting path (design §4). */
export interface EvidenceSource {
  readonly tee: Evidence['tee'];
  /** @param admission receipts name this evidence from now on */
  collect(nonce: Uint8Array, admission?: boolean): Promise<Evidence>;
  /** Of this platform, over what another scheme binds. */
  collectOver(binding: EvidenceBinding): Promise<BoundEvidence>;
  /** Digest of the newest evidence given for admission; empty before the first. */
  admissionDigest(): string;
}

export function evidenceSource(attester: Attester, workerKeys: Uint8Array): EvidenceSource {
  let turn: Promise<unknown> = Promise.resolve();
  let newest = '';
  const inTurn = <T>(collect: () => Promise<T>): Promise<T> => {
    const mine = turn.then(collect);
    turn = mine.catch(() => undefined); // a failed quote must not stop the next one
    return mine;
  };
  return {
    tee: attester.tee,
    admissionDigest: () => newest,
    collectOver: (binding) => inTurn(() => attester.collectOver(binding)),
    async collect(nonce, admission = false) {
      const evidence = await inTurn(() => attester.collect(nonce, workerKeys));
      if (admission) newest = await evidenceDigest(evidence);
      return evidence;
    },
  };
}
