import type { KEM, KEMFactory, Key } from 'hpke';

/**
 * MLKEM768-X25519 in JavaScript, for browsers: their WebCrypto has no ML-KEM yet. Loaded when it is first used, as no process of a worker
 * ever does; a worker has `hybrid-kem-node.ts`.
 */
export const MLKEM768_X25519: KEMFactory<Key> = () => {
  let loading: Promise<KEM<Key>> | undefined;
  const load = (): Promise<KEM<Key>> =>
    (loading ??= import('@panva/hpke-noble').then(({ KEM_MLKEM768_X25519 }) => KEM_MLKEM768_X25519() as KEM<Key>));
  return {
    id: 0x647a,
    type: 'KEM',
    name: 'MLKEM768-X25519',
    Nsecret: 32,
    Nenc: 1120,
    Npk: 1216,
    Nsk: 32,
    DeriveKeyPair: async (...args) => (await load()).DeriveKeyPair(...args),
    GenerateKeyPair: async (...args) => (await load()).GenerateKeyPair(...args),
    SerializePublicKey: async (...args) => (await load()).SerializePublicKey(...args),
    DeserializePublicKey: async (...args) => (await load()).DeserializePublicKey(...args),
    SerializePrivateKey: async (...args) => (await load()).SerializePrivateKey(...args),
    DeserializePrivateKey: async (...args) => (await load()).DeserializePrivateKey(...args),
    Encap: async (...args) => (await load()).Encap(...args),
    Decap: async (...args) => (await load()).Decap(...args),
  };
};
