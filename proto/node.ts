import { createHash } from 'node:crypto';

/** The sub-door of what is for Node only; `index.ts` stays free of `node:` so that it runs in a browser. */
export { readBoundedFile } from './bounded-file.ts';
export { leafHash, merkleTree, rootOfPath, type MerkleTree } from './merkle-tree.ts';
export { nodeSuite, sealToInNode } from './hpke-node.ts';
export { ANSWER_KEY_BYTES, answerKeyInfo, isProven, PROOF_HEADER, proveAnswer } from './kms-answer.ts';
export { readPolicyFile } from './policy-file.ts';
export { startFailure } from './start-failure.ts';
export { tlsSession, type TlsSession } from './tls-session.ts';

/** An incremental SHA-256, for `sealRequest`: without it, sealed bytes are kept until the end to be hashed. */
export function nodeHasher(): { update(bytes: Uint8Array): void; digest(): string } {
  const hash = createHash('sha256');
  return {
    update(bytes) {
      hash.update(bytes);
    },
    digest: () => hash.digest('hex'),
  };
}
