import type { KeyPair } from 'hpke';
import { ByteReader, concatBytes, equalBytes } from './bytes.ts';
import { CfnError } from './errors.ts';
import { OHTTP_SIZES, OHTTP_SUITE_IDS, webCryptoSuite, type OhttpSuite } from './ohttp-suite.ts';

/** A worker's OHTTP key: one per worker, in memory only. */
export interface OhttpKeys {
  /** Key configuration (RFC 9458 §3.1), without the length prefix of `application/ohttp-keys`. */
  readonly config: Uint8Array<ArrayBuffer>;
  readonly keyId: number;
  readonly keyPair: KeyPair;
  readonly suite: OhttpSuite;
}

export interface KeyConfig {
  readonly keyId: number;
  /** Raw X25519, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** A fresh key pair; the private key cannot be exported. */
export async function generateOhttpKeys(keyId = 1, suite: OhttpSuite = webCryptoSuite): Promise<OhttpKeys> {
  const keyPair = await suite.hpke.GenerateKeyPair(false);
  return {
    config: encodeKeyConfig(keyId, await suite.hpke.SerializePublicKey(keyPair.publicKey)),
    keyId,
    keyPair,
    suite,
  };
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
  const { keyId, publicKey } = parseKeyConfig(config);
  const keyPair = {
    publicKey: await suite.hpke.DeserializePublicKey(publicKey),
    privateKey: await suite.hpke.DeserializePrivateKey(privateKey),
  };
  return { config: new Uint8Array(config), keyId, keyPair, suite };
}

function encodeKeyConfig(keyId: number, publicKey: Uint8Array): Uint8Array<ArrayBuffer> {
  const { kem, kdf, aead } = OHTTP_SUITE_IDS;
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
  if (kem !== OHTTP_SUITE_IDS.kem)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', `key configuration has KEM ${kem}, expected ${OHTTP_SUITE_IDS.kem}`);
  const publicKey = reader.take(OHTTP_SIZES.publicKey, 'public key');
  const algorithmsBytes = reader.u16be('algorithms length');
  if (algorithmsBytes % 4 !== 0)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'symmetric algorithms of a key configuration are not pairs');
  let ours = false;
  for (let i = 0; i < algorithmsBytes / 4; i++) {
    const kdf = reader.u16be('KDF id');
    const aead = reader.u16be('AEAD id');
    ours ||= kdf === OHTTP_SUITE_IDS.kdf && aead === OHTTP_SUITE_IDS.aead;
  }
  reader.finish('key configuration');
  if (!ours) throw new CfnError('CFN_EVIDENCE_MALFORMED', 'key configuration lists no HKDF-SHA256 with AES-128-GCM');
  return { keyId, publicKey };
}

/** `hdr` of RFC 9458 §4.3: key id, KEM, KDF, AEAD. 7 bytes. */
export function requestHeader(keyId: number): Uint8Array<ArrayBuffer> {
  const { kem, kdf, aead } = OHTTP_SUITE_IDS;
  return Uint8Array.of(keyId, kem >> 8, kem & 0xff, kdf >> 8, kdf & 0xff, aead >> 8, aead & 0xff);
}

/** @throws {CfnError} `CFN_KEY_CONFIG_STALE` when the request is sealed to another key id or suite */
export function checkRequestHeader(header: Uint8Array, keyId: number): void {
  if (!equalBytes(header, requestHeader(keyId)))
    throw new CfnError('CFN_KEY_CONFIG_STALE', 'the request is sealed to another key configuration');
}
