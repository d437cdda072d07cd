export * from './endorsements.ts';
export * from './errors.ts';
export * from './bytes.ts';
export * from './hash.ts';
export { nodeCrypto } from './native.ts';
export * from './duration.ts';
export * from './limits.ts';
export * from './manifest.ts';
export * from './memory-needs.ts';
export * from './model-package.ts';
export * from './evidence.ts';
export * from './evidence-nonce.ts';
export * from './receipt.ts';
export * from './receipt-batch.ts';
export * from './receipt-archive.ts';
export * from './usage.ts';
export * from './kms-api.ts';
export * from './kms-url.ts';
export * from './worker-statement.ts';
export * from './version-split.ts';
export * from './kms-audit.ts';
export * from './function-secrets.ts';
export * from './secret-encoding.ts';
export * from './withdrawal.ts';
export * from './canonical-json.ts';
export * from './kbs.ts';
export * from './kbs-jwe.ts';
export * from './kbs-errors.ts';
export * from './bhttp.ts';
export * from './bhttp-request.ts';
export * from './bhttp-response.ts';
export {
  exportSealingKey,
  generateSealingKeyPair,
  importSealingKey,
  openSealed,
  sealTo,
  type SealingKeyPair,
} from './hpke.ts';
export * from './ohttp.ts';
export {
  encodeKeyConfigList,
  generateOhttpKeys,
  importOhttpKeys,
  OHTTP_KEYS_TYPE,
  parseKeyConfig,
  parseKeyConfigList,
  type KeyConfig,
  type OhttpKeys,
} from './ohttp-keys.ts';
export type { ResponseSealer, ResponseOpenerOptions } from './ohttp-response.ts';
export type { ChunkOpener, ChunkSealer } from './ohttp-chunks.ts';
export { HYBRID_KEM, type KeyExchange, type OhttpSuite } from './ohttp-suite.ts';
