import type { CipherSuite, KeyPair } from 'hpke';
import { ByteReader, concatBytes } from './bytes.ts';
import { CfnError } from './errors.ts';
import {
  isOhttpKem,
  MANDATORY_KEM,
  OHTTP_KEMS,
  OHTTP_SYMMETRIC,
  webCryptoSuite,
  type OhttpKem,
  type OhttpSuite,
} from './ohttp-suite.ts';

/** One of a worker's OHTTP keys: in memory only. */
export interface OhttpKeys {
  /** Key configuration (RFC 9458 §3.1), without the length prefix of `application/ohttp-keys`. */
  readonly config: Uint8Array<ArrayBuffer>;
  readonly keyId: number;
  readonly kem: OhttpKem;
  readonly keyPair: KeyPair;
  readonly suite: OhttpSuite;
}

export interface KeyConfig {
  readonly keyId: number;
  readonly kem: OhttpKem;
  /** Raw, as long as the KEM has them. */
  readonly publicKey: Uint8Array;
}

/** A fresh key pair; the private key cannot be exported. */
export async function generateOhttpKeys(
  keyId = 1,
  suite: OhttpSuite = webCryptoSuite,
  kem: OhttpKem = MANDATORY_KEM,
): Promise<OhttpKeys> {
  const hpke = hpkeOf(suite, kem);
  const keyPair = await hpke.GenerateKeyPair(false);
  const config = encodeKeyConfig({ keyId, kem, publicKey: await hpke.SerializePublicKey(keyPair.publicKey) });
  return { config, keyId, kem, keyPair, suite };
}

/**
 * Keys from raw bytes, for test vectors and other implementations' configurations.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export async function importOhttpKeys(
  config: Uint8Array,
  privateKey: Uint8Array,
  suite: OhttpSuite = webCryptoSuite,
): Promise<OhttpKeys> {
  const { keyId, kem, publicKey } = parseKeyConfig(config);
  const hpke = hpkeOf(suite, kem);
  const keyPair = {
    publicKey: await hpke.DeserializePublicKey(publicKey),
    privateKey: await hpke.DeserializePrivateKey(privateKey),
  };
  return { config: new Uint8Array(config), keyId, kem, keyPair, suite };
}

/** @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when the implementation lacks the KEM */
export function hpkeOf(suite: OhttpSuite, kem: OhttpKem): CipherSuite {
  const hpke = suite.hpke.get(kem);
  if (hpke === undefined)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', `this implementation has no ${OHTTP_KEMS[kem].name}`);
  return hpke;
}

function encodeKeyConfig({ keyId, kem, publicKey }: KeyConfig): Uint8Array<ArrayBuffer> {
  const { kdf, aead } = OHTTP_SYMMETRIC;
  return concatBytes(
    Uint8Array.of(keyId, kem >> 8, kem & 0xff),
    publicKey,
    Uint8Array.of(0, 4, kdf >> 8, kdf & 0xff, aead >> 8, aead & 0xff),
  );
}

/**
 * Parses a key configuration. It may list other symmetric algorithms, but has to list ours.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`: it came inside a worker keys document
 */
export function parseKeyConfig(config: Uint8Array): KeyConfig {
  const reader = new ByteReader(config);
  const keyId = reader.u8('key id');
  const kem = reader.u16be('KEM id');
  if (!isOhttpKem(kem)) throw new CfnError('CFN_EVIDENCE_MALFORMED', `key configuration has KEM ${kem}, none of ours`);
  const publicKey = reader.take(OHTTP_KEMS[kem].publicKeyBytes, 'public key');
  const algorithmsBytes = reader.u16be('algorithms length');
  if (algorithmsBytes % 4 !== 0)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'symmetric algorithms of a key configuration are not pairs');
  let ours = false;
  for (let i = 0; i < algorithmsBytes / 4; i++) {
    const kdf = reader.u16be('KDF id');
    const aead = reader.u16be('AEAD id');
    ours ||= kdf === OHTTP_SYMMETRIC.kdf && aead === OHTTP_SYMMETRIC.aead;
  }
  reader.finish('key configuration');
  if (!ours) throw new CfnError('CFN_EVIDENCE_MALFORMED', 'key configuration lists no HKDF-SHA256 with AES-128-GCM');
  return { keyId, kem, publicKey };
}

/** `application/ohttp-keys`: configurations, each after its length (RFC 9458 §3.2); the preferred one first. */
export const OHTTP_KEYS_TYPE = 'application/ohttp-keys';

export function encodeKeyConfigList(configs: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return concatBytes(...configs.flatMap((config) => [Uint8Array.of(config.length >> 8, config.length & 0xff), config]));
}

/**
 * The configurations of a list that we can use, in its order. One with a KEM or with algorithms of others is passed over, as the RFC
 * asks; a list that is cut, or has nothing for us, is refused.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseKeyConfigList(list: Uint8Array): KeyConfig[] {
  const reader = new ByteReader(list);
  const usable: KeyConfig[] = [];
  while (reader.remaining > 0) {
    const config = reader.take(reader.u16be('key configuration length'), 'key configuration');
    try {
      usable.push(parseKeyConfig(config));
    } catch (cause) {
      if (!(cause instanceof CfnError)) throw cause;
    }
  }
  if (usable.length === 0) throw new CfnError('CFN_EVIDENCE_MALFORMED', 'no key configuration of the list can be used');
  return usable;
}

/** `hdr` of RFC 9458 §4.3: key id, KEM, KDF, AEAD. 7 bytes. */
export function requestHeader({ keyId, kem }: Pick<KeyConfig, 'keyId' | 'kem'>): Uint8Array<ArrayBuffer> {
  const { kdf, aead } = OHTTP_SYMMETRIC;
  return Uint8Array.of(keyId, kem >> 8, kem & 0xff, kdf >> 8, kdf & 0xff, aead >> 8, aead & 0xff);
}
