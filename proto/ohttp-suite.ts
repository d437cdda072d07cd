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

/** The one suite of ours, mandatory for OHTTP (RFC 9458 §3.1): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. */
export const OHTTP_SUITE_IDS = { kem: 0x0020, kdf: 0x0001, aead: 0x0001 } as const;
/** Sizes in that suite, in bytes. `nonce` is that of a response: max(Nn, Nk). */
export const OHTTP_SIZES = {
  publicKey: 32,
  enc: 32,
  header: 7,
  nonce: 16,
  aeadKey: 16,
  aeadNonce: 12,
  tag: 16,
} as const;

/** An implementation of the suite. There are two: WebCrypto here, and `node:crypto` in `proto/node.ts`, which is several times faster. */
export interface OhttpSuite {
  readonly hpke: CipherSuite;
  readonly kdf: Readonly<KDF>;
  readonly aead: Readonly<AEAD>;
}

export function ohttpSuite(kem: KEMFactory<Key>, kdf: KDFFactory, aead: AEADFactory): OhttpSuite {
  return { hpke: new CipherSuite(kem, kdf, aead), kdf: kdf(), aead: aead() };
}

export const webCryptoSuite: OhttpSuite = ohttpSuite(
  KEM_DHKEM_X25519_HKDF_SHA256 as KEMFactory<Key>,
  KDF_HKDF_SHA256,
  AEAD_AES_128_GCM,
);
