import {
  AEAD_AES_128_GCM,
  CipherSuite,
  KDF_HKDF_SHA256,
  KEM_DHKEM_X25519_HKDF_SHA256,
  type AEAD,
  type AEADFactory,
  type KDF,
  type KDFFactory,
  type Key,
  type KEMFactory,
} from 'hpke';
import { MLKEM768_X25519 } from './hybrid-kem.ts';

/**
 * KEMs that requests are sealed with, by their ids in IANA's registry "HPKE KEM Identifiers"; sizes in bytes.
 * 0x0020 is DHKEM(X25519, HKDF-SHA256), mandatory for OHTTP (RFC 9458 §3.1). 0x647a is X-Wing, which draft-ietf-hpke-pq calls
 * MLKEM768-X25519: it holds while either of ML-KEM-768 and X25519 does.
 */
export const OHTTP_KEMS = {
  0x0020: { name: 'X25519', publicKeyBytes: 32, encBytes: 32 },
  0x647a: { name: 'MLKEM768-X25519', publicKeyBytes: 1216, encBytes: 1120 },
} as const;
export type OhttpKem = keyof typeof OHTTP_KEMS;
export type KeyExchange = (typeof OHTTP_KEMS)[OhttpKem]['name'];
export const MANDATORY_KEM: OhttpKem = 0x0020;
export const HYBRID_KEM: OhttpKem = 0x647a;

export const isOhttpKem = (id: number): id is OhttpKem => Object.hasOwn(OHTTP_KEMS, id);

/** Under each KEM: HKDF-SHA256 and AES-128-GCM. */
export const OHTTP_SYMMETRIC = { kdf: 0x0001, aead: 0x0001 } as const;
/** Sizes in these, in bytes. `nonce` is that of a response: max(Nn, Nk). */
export const OHTTP_SIZES = { header: 7, nonce: 16, aeadKey: 16, aeadNonce: 12, tag: 16 } as const;

/** An implementation. There are two: for browsers here, and `node:crypto` in `proto/node.ts`, which is several times faster. */
export interface OhttpSuite {
  /** By KEM. The mandatory one is always there. */
  readonly hpke: ReadonlyMap<number, CipherSuite>;
  readonly kdf: Readonly<KDF>;
  readonly aead: Readonly<AEAD>;
}

export function ohttpSuite(kems: readonly KEMFactory<Key>[], kdf: KDFFactory, aead: AEADFactory): OhttpSuite {
  const suites = kems.map((kem) => new CipherSuite(kem, kdf, aead));
  return { hpke: new Map(suites.map((suite) => [suite.KEM.id, suite])), kdf: kdf(), aead: aead() };
}

/** WebCrypto, with ML-KEM in JavaScript, as browsers do not have it yet: it only ever makes fresh shared secrets to public keys here. */
export const webCryptoSuite: OhttpSuite = /* @__PURE__ */ ohttpSuite(
  [KEM_DHKEM_X25519_HKDF_SHA256 as KEMFactory<Key>, MLKEM768_X25519],
  KDF_HKDF_SHA256,
  AEAD_AES_128_GCM,
);
