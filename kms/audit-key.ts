import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';
import {
  AUDIT_CHECKPOINT_TYPE,
  auditCheckpointSchema,
  fromBase64url,
  fromUtf8,
  toBase64url,
  utf8,
  type AuditCheckpoint,
} from '../proto/index.ts';
import type { RootKey } from './root-key.ts';
import { openSecret } from './secrets.ts';
import type { SecretStore } from './store.ts';

/** The KMS's Ed25519 key for checkpoints of audit logs. Synchronous, so that a checkpoint is in the transaction of its entry. */
export interface AuditKey {
  /** Raw, base64url. */
  readonly publicKey: string;
  /** @returns a JWS */
  sign(checkpoint: AuditCheckpoint): string;
  /** @returns what a JWS of this key says, or `undefined` when it is none */
  open(statement: string): AuditCheckpoint | undefined;
}

/** Opens the audit key from the store, or makes it on first use. @throws {CfnError} as {@link openSecret} */
export async function openAuditKey(store: SecretStore, root: RootKey, mayMake: boolean): Promise<AuditKey> {
  const { publicKey, bytes } = await openSecret('audit', store, root, mayMake, makeKeyPair);
  const privateKey = createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' });
  bytes.fill(0);
  return auditKey(publicKey, privateKey);
}

async function makeKeyPair(): Promise<{ publicKey: string; bytes: Uint8Array }> {
  const pair = generateKeyPairSync('ed25519');
  return {
    publicKey: pair.publicKey.export({ format: 'jwk' }).x ?? '',
    bytes: pair.privateKey.export({ format: 'der', type: 'pkcs8' }),
  };
}

function auditKey(publicKey: string, privateKey: KeyObject): AuditKey {
  const verifying = createPublicKey(privateKey);
  const header = toBase64url(utf8(JSON.stringify({ alg: 'EdDSA', typ: AUDIT_CHECKPOINT_TYPE })));
  return {
    publicKey,
    sign(checkpoint) {
      const signed = `${header}.${toBase64url(utf8(JSON.stringify(checkpoint)))}`;
      return `${signed}.${toBase64url(sign(null, utf8(signed), privateKey))}`;
    },
    open(statement) {
      const [head, payload = '', signature = ''] = statement.split('.');
      try {
        if (head !== header || !verify(null, utf8(`${head}.${payload}`), verifying, fromBase64url(signature)))
          return undefined;
        return auditCheckpointSchema.parse(JSON.parse(fromUtf8(fromBase64url(payload))));
      } catch {
        return undefined;
      }
    },
  };
}
