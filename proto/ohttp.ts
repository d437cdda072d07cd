import type { RecipientContext, SenderContext } from 'hpke';
import { createByteQueue } from './byte-queue.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { CfnError } from './errors.ts';
import { createChunkOpener, createChunkSealer, type ChunkOpener, type ChunkSealer } from './ohttp-chunks.ts';
import { checkRequestHeader, parseKeyConfig, requestHeader, type OhttpKeys } from './ohttp-keys.ts';
import {
  openResponse,
  RESPONSE_LABEL,
  sealResponse,
  type ResponseOpenerOptions,
  type ResponseSealer,
} from './ohttp-response.ts';
import { OHTTP_SIZES, webCryptoSuite, type OhttpSuite } from './ohttp-suite.ts';

/** Chunked Oblivious HTTP: RFC 9458 with draft-ietf-ohai-chunked-ohttp-08. The client's and the worker's side of one exchange. */
export const OHTTP_REQUEST_TYPE = 'message/ohttp-chunked-req';
export const OHTTP_RESPONSE_TYPE = 'message/ohttp-chunked-res';

/** `info` of the request's HPKE context: label ‖ 0 ‖ hdr. */
const requestInfo = (header: Uint8Array): Uint8Array => concatBytes(utf8('message/bhttp chunked request\0'), header);

const exportSecret = (context: SenderContext | RecipientContext): Promise<Uint8Array> =>
  context.Export(RESPONSE_LABEL, OHTTP_SIZES.nonce);

export interface RequestSealer extends ChunkSealer {
  /** hdr ‖ enc: goes before all chunks. 39 bytes. */
  readonly header: Uint8Array<ArrayBuffer>;
  createResponseOpener(options?: ResponseOpenerOptions): Promise<ChunkOpener>;
}

/**
 * The client's side. One sealer serves one request: its key is used once.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when the key configuration is none of ours
 */
export async function createRequestSealer(
  config: Uint8Array,
  suite: OhttpSuite = webCryptoSuite,
): Promise<RequestSealer> {
  const { keyId, publicKey } = parseKeyConfig(config);
  const header = requestHeader(keyId);
  const { encapsulatedSecret: enc, ctx } = await setUpSender(suite, publicKey, requestInfo(header));
  return {
    header: concatBytes(header, enc),
    ...createChunkSealer((bytes, aad) => ctx.Seal(bytes, aad)),
    createResponseOpener: async (options) => openResponse(suite, await exportSecret(ctx), enc, options),
  };
}

async function setUpSender(
  suite: OhttpSuite,
  publicKey: Uint8Array,
  info: Uint8Array,
): ReturnType<OhttpSuite['hpke']['SetupSender']> {
  try {
    return await suite.hpke.SetupSender(await suite.hpke.DeserializePublicKey(publicKey), { info });
  } catch (cause) {
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'the public key of the key configuration cannot be used', { cause });
  }
}

export interface RequestOpener extends ChunkOpener {
  /**
   * `enc`: unique for each honest request, so a repeated one is a replay (RFC 9458 §6.5). 32 bytes.
   *
   * @throws {CfnError} `CFN_REQUEST_MALFORMED` before it has come
   */
  encapsulatedKey(): Uint8Array;
  /** May be called once the header has come; a response does not need a whole request. */
  createResponseSealer(): Promise<ResponseSealer>;
}

/**
 * The worker's side.
 *
 * @throws {CfnError} from `push` and `end`: `CFN_KEY_CONFIG_STALE` when sealed to another key id or suite; `CFN_REQUEST_MALFORMED` when it
 *   does not open or ends early
 */
export function createRequestOpener(keys: OhttpKeys): RequestOpener {
  const { suite } = keys;
  const queue = createByteQueue();
  let opened:
    { readonly enc: Uint8Array; readonly context: RecipientContext; readonly chunks: ChunkOpener } | undefined;
  const state = (): NonNullable<typeof opened> => {
    if (opened === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', 'the sealed request ends within its header');
    return opened;
  };

  async function readHeader(): Promise<NonNullable<typeof opened>> {
    const header = queue.take(OHTTP_SIZES.header);
    checkRequestHeader(header, keys.keyId);
    const enc = new Uint8Array(queue.take(OHTTP_SIZES.enc));
    const context = await setUpRecipient(keys, enc, requestInfo(header));
    const chunks = createChunkOpener({
      open: (sealed, aad) => context.Open(sealed, aad),
      malformed: 'CFN_REQUEST_MALFORMED',
      truncated: 'CFN_REQUEST_MALFORMED',
    });
    return { enc, context, chunks };
  }

  return {
    async push(bytes) {
      if (opened !== undefined) return opened.chunks.push(bytes);
      queue.append(bytes);
      if (queue.length < OHTTP_SIZES.header + OHTTP_SIZES.enc) return [];
      opened = await readHeader();
      return opened.chunks.push(queue.take(queue.length));
    },
    end: async () => state().chunks.end(),
    encapsulatedKey: () => state().enc,
    async createResponseSealer() {
      const { enc, context } = state();
      return sealResponse(
        suite,
        await exportSecret(context),
        enc,
        crypto.getRandomValues(new Uint8Array(OHTTP_SIZES.nonce)),
      );
    },
  };
}

async function setUpRecipient(keys: OhttpKeys, enc: Uint8Array, info: Uint8Array): Promise<RecipientContext> {
  try {
    return await keys.suite.hpke.SetupRecipient(keys.keyPair, enc, { info });
  } catch (cause) {
    throw new CfnError('CFN_REQUEST_MALFORMED', 'the encapsulated key of the request cannot be used', { cause });
  }
}
