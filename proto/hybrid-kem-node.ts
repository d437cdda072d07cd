import {
  createHash,
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import type { Key, KEMFactory, KeyPair } from 'hpke';
import { publicHandle, rawPublic, sharedPoint, X25519_PKCS8_PREFIX } from './x25519-node.ts';

/**
 * MLKEM768-X25519 of draft-ietf-hpke-pq (X-Wing, KEM 0x647a) over OpenSSL's ML-KEM: in constant time where a private key is used, and
 * without a turn through the thread pool.
 */
const PQ_PUBLIC_BYTES = 1184;
const PQ_CIPHERTEXT_BYTES = 1088;
const SEED_BYTES = 32;
const LABEL = Buffer.from('\\.//^\\');
// RFC 9935: id-alg-ml-kem-768, then the raw public key, or the 64-byte seed alone.
const PQ_SPKI_PREFIX = Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex');
const PQ_PKCS8_PREFIX = Buffer.from('3054020100300b060960864801650304040204428040', 'hex');

/** Both public keys. A private one has its own two beside them. */
interface HybridKey extends Key {
  readonly pq: KeyObject;
  readonly x25519: KeyObject;
  readonly raw: Uint8Array;
}
const algorithm = { name: 'MLKEM768-X25519' };
const asHybridKey = (key: Key): HybridKey => {
  if (!('pq' in key && 'x25519' in key && 'raw' in key)) throw new TypeError('a key of another implementation');
  return key as HybridKey;
};

const pqPublic = (raw: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.concat([PQ_SPKI_PREFIX, raw]), format: 'der', type: 'spki' });
const pqRaw = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' }).subarray(-PQ_PUBLIC_BYTES);

function keyPair(pq: KeyObject, x25519: KeyObject, extractable: boolean): KeyPair {
  const publicKeys = { pq: createPublicKey(pq), x25519: createPublicKey(x25519) };
  const raw = new Uint8Array(Buffer.concat([pqRaw(publicKeys.pq), rawPublic(publicKeys.x25519)]));
  return {
    privateKey: { algorithm, extractable, type: 'private', pq, x25519, raw } as HybridKey,
    publicKey: { algorithm, extractable: true, type: 'public', ...publicKeys, raw } as HybridKey,
  };
}

/** C2PRICombiner of draft-irtf-cfrg-hybrid-kems: ML-KEM binds its own ciphertext and key. */
const combine = (pqShared: Uint8Array, dh: Uint8Array, ciphertext: Uint8Array, recipient: Uint8Array): Uint8Array =>
  new Uint8Array(
    createHash('sha3-256').update(pqShared).update(dh).update(ciphertext).update(recipient).update(LABEL).digest(),
  );

export const MLKEM768_X25519: KEMFactory<Key> = () => ({
  id: 0x647a,
  type: 'KEM',
  name: 'MLKEM768-X25519',
  Nsecret: 32,
  Nenc: PQ_CIPHERTEXT_BYTES + 32,
  Npk: PQ_PUBLIC_BYTES + 32,
  Nsk: SEED_BYTES,
  DeriveKeyPair: () => Promise.reject(new Error('not needed here')),
  async GenerateKeyPair(extractable): Promise<KeyPair> {
    return keyPair(generateKeyPairSync('ml-kem-768').privateKey, generateKeyPairSync('x25519').privateKey, extractable);
  },
  SerializePublicKey: async (key) => new Uint8Array(asHybridKey(key).raw),
  async DeserializePublicKey(raw) {
    return {
      algorithm,
      extractable: true,
      type: 'public',
      pq: pqPublic(raw.subarray(0, PQ_PUBLIC_BYTES)),
      x25519: publicHandle(raw.subarray(PQ_PUBLIC_BYTES)),
      raw: new Uint8Array(raw),
    } as HybridKey;
  },
  SerializePrivateKey: () => Promise.reject(new Error('not needed here')),
  async DeserializePrivateKey(seed, extractable) {
    const expanded = createHash('shake256', { outputLength: 96 }).update(seed).digest();
    const der = (prefix: Buffer, key: Buffer): KeyObject =>
      createPrivateKey({ key: Buffer.concat([prefix, key]), format: 'der', type: 'pkcs8' });
    const pq = der(PQ_PKCS8_PREFIX, expanded.subarray(0, 64));
    return keyPair(pq, der(X25519_PKCS8_PREFIX, expanded.subarray(64)), extractable).privateKey;
  },
  async Encap(recipient) {
    const { pq, x25519, raw } = asHybridKey(recipient);
    const { sharedKey, ciphertext } = encapsulate(pq);
    const ephemeral = generateKeyPairSync('x25519');
    const point = rawPublic(ephemeral.publicKey);
    const dh = sharedPoint(ephemeral.privateKey, x25519);
    return {
      shared_secret: combine(sharedKey, dh, point, raw.subarray(PQ_PUBLIC_BYTES)),
      enc: new Uint8Array(Buffer.concat([ciphertext, point])),
    };
  },
  async Decap(enc, privateKey) {
    const { pq, x25519, raw } = asHybridKey(privateKey);
    const point = enc.subarray(PQ_CIPHERTEXT_BYTES);
    const pqShared = decapsulate(pq, enc.subarray(0, PQ_CIPHERTEXT_BYTES));
    return combine(pqShared, sharedPoint(x25519, publicHandle(point)), point, raw.subarray(PQ_PUBLIC_BYTES));
  },
});
