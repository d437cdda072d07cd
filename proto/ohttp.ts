import type { CipherSuite, RecipientContext, SenderContext } from 'hpke';
import { createByteQueue } from './byte-queue.ts';
import { concatBytes, equalBytes, utf8 } from './bytes.ts';
import { CfnError } from './errors.ts';
import { createChunkOpener, createChunkSealer, type ChunkOpener, type ChunkSealer } from './ohttp-chunks.ts';
import { hpkeOf, parseKeyConfig, requestHeader, type KeyConfig, type OhttpKeys } from './ohttp-keys.ts';
import {
  openResponse,
  RESPONSE_LABEL,
  sealResponse,
  type ResponseOpenerOptions,
  type ResponseSealer,
} from './ohttp-response.ts';
import { OHTTP_KEMS, OHTTP_SIZES, webCryptoSuite, type KeyExchange, type OhttpSuite } from './ohttp-suite.ts';

/** Chunked Oblivious HTTP: RFC 9458 with draft-ietf-ohai-chunked-ohttp-08. The client's and the worker's side of one exchange. */
export const OHTTP_REQUEST_TYPE = 'message/ohttp-chunked-req';
export const OHTTP_RESPONSE_TYPE = 'message/ohttp-chunked-res';

/** `info` of the request's HPKE context: label ‖ 0 ‖ hdr. */
const requestInfo = (header: Uint8Array): Uint8Array => concatBytes(utf8('message/bhttp chunked request\0'), header);

const exportSecret = (context: SenderContext | RecipientContext): Promise<Uint8Array> =>
  context.Export(RESPONSE_LABEL, OHTTP_SIZES.nonce);

export interface RequestSealer extends ChunkSealer {
  /** hdr ‖ enc: goes before all chunks. */
  readonly header: Uint8Array<ArrayBuffer>;
  readonly keyExchange: KeyExchange;
  createResponseOpener(options?: ResponseOpenerOptions): Promise<ChunkOpener>;
}

/**
 * The client's side. One sealer serves one request: its key is used once.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when the key configuration is none that `suite` can use
 */
export async function createRequestSealer(
  config: Uint8Array,
  suite: OhttpSuite = webCryptoSuite,
): Promise<RequestSealer> {
  const key = parseKeyConfig(config);
  const header = requestHeader(key);
  const { encapsulatedSecret: enc, ctx } = await setUpSender(suite, key, requestInfo(header));
  return {
    header: concatBytes(header, enc),
    keyExchange: OHTTP_KEMS[key.kem].name,
    ...createChunkSealer((bytes, aad) => ctx.Seal(bytes, aad)),
    createResponseOpener: async (options) => openResponse(suite, await exportSecret(ctx), enc, options),
  };
}

async function setUpSender(
  suite: OhttpSuite,
  { kem, publicKey }: KeyConfig,
  info: Uint8Array,
): ReturnType<CipherSuite['SetupSender']> {
  const hpke = hpkeOf(suite, kem);
  try {
    return await hpke.SetupSender(await hpke.DeserializePublicKey(publicKey), { info });
  } catch (cause) {
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'the public key of the key configuration cannot be used', { cause });
  }
}

export interface RequestOpener extends ChunkOpener {
  /**
   * `enc`: unique for each honest request, so a repeated one is a replay (RFC 9458 §6.5). As long as its KEM has it.
   *
   * @throws {CfnError} `CFN_REQUEST_MALFORMED` before it has come
   */
  encapsulatedKey(): Uint8Array;
  /** May be called once the header has come; a response does not need a whole request. */
  createResponseSealer(): Promise<ResponseSealer>;
}

/**
 * The worker's side, with one key for each KEM that it offers.
 *
 * @throws {CfnError} from `push` and `end`: `CFN_KEY_CONFIG_STALE` when sealed to another key id or suite; `CFN_REQUEST_MALFORMED` when it
 *   does not open or ends early
 */
export function createRequestOpener(...offered: readonly OhttpKeys[]): RequestOpener {
  const queue = createByteQueue();
  let header: { readonly bytes: Uint8Array; readonly keys: OhttpKeys } | undefined;
  let opened:
    | {
        readonly enc: Uint8Array;
        readonly suite: OhttpSuite;
        readonly context: RecipientContext;
        readonly chunks: ChunkOpener;
      }
    | undefined;
  const state = (): NonNullable<typeof opened> => {
    if (opened === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', 'the sealed request ends within its header');
    return opened;
  };

  function readHeader(): NonNullable<typeof header> {
    const bytes = queue.take(OHTTP_SIZES.header);
    const keys = offered.find((it) => equalBytes(bytes, requestHeader(it)));
    if (keys === undefined)
      throw new CfnError('CFN_KEY_CONFIG_STALE', 'the request is sealed to another key configuration');
    return { bytes, keys };
  }
  async function setUp({ bytes, keys }: NonNullable<typeof header>): Promise<NonNullable<typeof opened>> {
    const enc = new Uint8Array(queue.take(OHTTP_KEMS[keys.kem].encBytes));
    const context = await setUpRecipient(keys, enc, requestInfo(bytes));
    const chunks = createChunkOpener({
      open: (sealed, aad) => context.Open(sealed, aad),
      malformed: 'CFN_REQUEST_MALFORMED',
      truncated: 'CFN_REQUEST_MALFORMED',
    });
    return { enc, suite: keys.suite, context, chunks };
  }

  return {
    async push(bytes) {
      if (opened !== undefined) return opened.chunks.push(bytes);
      queue.append(bytes);
      if (header === undefined && queue.length < OHTTP_SIZES.header) return [];
      header ??= readHeader();
      if (queue.length < OHTTP_KEMS[header.keys.kem].encBytes) return [];
      opened = await setUp(header);
      return opened.chunks.push(queue.take(queue.length));
    },
    end: async () => state().chunks.end(),
    encapsulatedKey: () => state().enc,
    async createResponseSealer() {
      const { enc, suite, context } = state();
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
    return await hpkeOf(keys.suite, keys.kem).SetupRecipient(keys.keyPair, enc, { info });
  } catch (cause) {
    throw new CfnError('CFN_REQUEST_MALFORMED', 'the encapsulated key of the request cannot be used', { cause });
  }
}
