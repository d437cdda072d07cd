import koffi from 'koffi';

/** One file's segments in shared memory: ciphertext, which becomes plaintext where it lies, and what belongs to each. */
export interface SharedFile {
  readonly segments: number;
  readonly segmentBytes: number;
  /** As many bytes as the file has. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** 16 bytes a segment. */
  readonly tags: Uint8Array<SharedArrayBuffer>;
  /** 12 bytes a segment. */
  readonly nonces: Uint8Array;
  readonly aad: Uint8Array;
}

export interface SegmentCipher extends Disposable {
  /** Opens one segment where it lies. @returns false when it is not authentic; the memory then holds nothing to be used */
  open(file: SharedFile, index: number): boolean;
}

const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const EVP_CTRL_AEAD_SET_TAG = 0x11;

/**
 * AES-256-GCM in place, by the OpenSSL that is part of Node: EVP, its public interface, whose functions the node program exports. Node's own
 * `Decipher` allocates its output, 1 MiB a segment, to be copied and overwritten: that takes three to four times as long as opening.
 *
 * @param dataKey 32 bytes; OpenSSL's copy is overwritten on disposal
 */
export function segmentCipher(dataKey: Uint8Array): SegmentCipher {
  if (dataKey.length !== 32) throw new Error('a data key has 32 bytes'); // OpenSSL reads as many, whatever is there
  const evp = openSsl();
  const context = evp.newContext();
  const written = new Int32Array(1);
  if (context === null || evp.init(context, evp.aes256Gcm(), null, dataKey, null) !== 1)
    throw new Error('OpenSSL has no AES-256-GCM');
  return {
    open({ segmentBytes, bytes, tags, nonces, aad }, index) {
      const body = bytes.subarray(index * segmentBytes, (index + 1) * segmentBytes);
      const nonce = nonces.subarray(index * NONCE_BYTES, (index + 1) * NONCE_BYTES);
      const tag = tags.subarray(index * TAG_BYTES, (index + 1) * TAG_BYTES);
      return (
        evp.init(context, null, null, null, nonce) === 1 &&
        evp.update(context, null, written, aad, aad.length) === 1 &&
        (body.length === 0 || evp.update(context, body, written, body, body.length) === 1) &&
        evp.control(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) === 1 &&
        evp.final(context, tag, written) === 1 // checks the tag; GCM has no output left to write
      );
    },
    [Symbol.dispose]: () => evp.freeContext(context),
  };
}

type Pointer = object | null;
type Bytes = Uint8Array | null;
interface OpenSsl {
  readonly aes256Gcm: () => Pointer;
  readonly newContext: () => Pointer;
  readonly freeContext: (context: Pointer) => void;
  readonly init: (context: Pointer, cipher: Pointer, engine: null, key: Bytes, nonce: Bytes) => number;
  readonly update: (context: Pointer, out: Bytes, written: Int32Array, from: Uint8Array, bytes: number) => number;
  readonly control: (context: Pointer, what: number, bytes: number, at: Uint8Array) => number;
  readonly final: (context: Pointer, out: Uint8Array, written: Int32Array) => number;
}

let loaded: OpenSsl | undefined;
function openSsl(): OpenSsl {
  if (loaded !== undefined) return loaded;
  const node = koffi.load(null);
  return (loaded = {
    aes256Gcm: node.func('void *EVP_aes_256_gcm(void)'),
    newContext: node.func('void *EVP_CIPHER_CTX_new(void)'),
    freeContext: node.func('void EVP_CIPHER_CTX_free(void *context)'),
    init: node.func(
      'int EVP_DecryptInit_ex(void *context, void *cipher, void *engine, const uint8_t *key, const uint8_t *nonce)',
    ),
    update: node.func(
      'int EVP_DecryptUpdate(void *context, uint8_t *out, int *written, const uint8_t *from, int bytes)',
    ),
    control: node.func('int EVP_CIPHER_CTX_ctrl(void *context, int what, int bytes, uint8_t *at)'),
    final: node.func('int EVP_DecryptFinal_ex(void *context, uint8_t *out, int *written)'),
  });
}
