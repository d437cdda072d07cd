import { createHash } from 'node:crypto';
import {
  CfnError,
  createRequestOpener,
  fromUtf8,
  scanRequestFields,
  type OhttpKeys,
  type ResponseSealer,
} from '../../proto/index.ts';

/** A sealed request, opened. The plaintext stays bytes: the agent makes no string of anything but the two fields it needs. */
export interface OpenedRequest {
  readonly encapsulatedKey: Uint8Array;
  /** SHA-256 of the sealed request, whole, hexadecimal. */
  readonly digest: string;
  readonly sealedBytes: number;
  /** Binary HTTP. */
  readonly plaintext: Uint8Array;
  /** The function version that the caller sealed for. */
  readonly version: string;
  readonly date: Date;
  responseSealer(): Promise<ResponseSealer>;
  /** Overwrites the plaintext; returns how many bytes that were, 0 the second time. */
  wipe(): number;
}

/** @throws {CfnError} `CFN_REQUEST_MALFORMED`, `CFN_KEY_CONFIG_STALE`, `CFN_BODY_TOO_LARGE`; what was opened by then is overwritten */
export async function openRequest(
  keys: OhttpKeys,
  sealed: AsyncIterable<Uint8Array>,
  sealedBytesMax: number,
): Promise<OpenedRequest> {
  const opener = createRequestOpener(keys);
  const hash = createHash('sha256');
  const pieces: Uint8Array[] = [];
  let sealedBytes = 0;
  try {
    for await (const bytes of sealed) {
      sealedBytes += bytes.length;
      if (sealedBytes > sealedBytesMax)
        throw new CfnError('CFN_BODY_TOO_LARGE', `the sealed request is over ${sealedBytesMax} bytes`);
      hash.update(bytes);
      pieces.push(...(await opener.push(bytes)));
    }
    pieces.push(...(await opener.end()));
    const plaintext = joinAndWipe(pieces);
    pieces.push(plaintext);
    const { version, date } = controlFields(plaintext);
    let wiped = false;
    return {
      encapsulatedKey: opener.encapsulatedKey(),
      digest: hash.digest('hex'),
      sealedBytes,
      plaintext,
      version,
      date,
      responseSealer: () => opener.createResponseSealer(),
      wipe() {
        if (wiped) return 0;
        wiped = true;
        plaintext.fill(0);
        return plaintext.length;
      },
    };
  } catch (error) {
    for (const piece of pieces) piece.fill(0);
    throw error;
  }
}

function joinAndWipe(pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces.splice(0)) {
    whole.set(piece, at);
    at += piece.length;
    piece.fill(0);
  }
  return whole;
}

const VERSION_FIELD = 'cfn-function-version';

function controlFields(plaintext: Uint8Array): { version: string; date: Date } {
  const fields = scanRequestFields(plaintext, [VERSION_FIELD, 'date']);
  const text = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined) throw new CfnError('CFN_REQUEST_MALFORMED', `the sealed request has no ${name} field`);
    return fromUtf8(value, 'CFN_REQUEST_MALFORMED');
  };
  const version = text(VERSION_FIELD);
  const date = new Date(text('date'));
  if (!/^[0-9a-f]{64}$/.test(version) || Number.isNaN(date.getTime())) {
    throw new CfnError('CFN_REQUEST_MALFORMED', 'the sealed request has an ill-formed version or date');
  }
  return { version, date };
}
