import type { Attester } from '../../attestation/attester/index.ts';
import { evidenceDigest, type Evidence } from '../../proto/index.ts';

/** Evidence for this worker's keys. Quotes are made one at a time: a VM has one quoting path (design §4). */
export interface EvidenceSource {
  readonly tee: Evidence['tee'];
  /** @param admission receipts name this evidence from now on */
  collect(nonce: Uint8Array, admission?: boolean): Promise<Evidence>;
  /** Digest of the newest evidence given for admission; empty before the first. */
  admissionDigest(): string;
}

export function evidenceSource(attester: Attester, workerKeys: Uint8Array): EvidenceSource {
  let turn: Promise<unknown> = Promise.resolve();
  let newest = '';
  return {
    tee: attester.tee,
    admissionDigest: () => newest,
    async collect(nonce, admission = false) {
      const mine = turn.then(() => attester.collect(nonce, workerKeys));
      turn = mine.catch(() => undefined); // a failed quote must not stop the next one
      const evidence = await mine;
      if (admission) newest = await evidenceDigest(evidence);
      return evidence;
    },
  };
}
