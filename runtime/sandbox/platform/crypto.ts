import { domString } from './dom-string.ts';
import { DOMException } from './dom-exception.ts';
import { callHost, host } from './host.ts';
import { bytesOf } from './utf8.ts';

const RANDOM_BYTES_MAX = 65_536; // Web Cryptography API §10.1.1
const DIGESTS = new Set(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512']);

function getRandomValues<T extends ArrayBufferView>(view: T): T {
  if (
    !ArrayBuffer.isView(view) ||
    view instanceof DataView ||
    view instanceof Float32Array ||
    view instanceof Float64Array
  ) {
    throw new DOMException('getRandomValues needs an array of integers', 'TypeMismatchError');
  }
  if (view.byteLength > RANDOM_BYTES_MAX)
    throw new DOMException(`at most ${RANDOM_BYTES_MAX} bytes at once`, 'QuotaExceededError');
  bytesOf(view).set(new Uint8Array(host().random(view.byteLength)));
  return view;
}

function randomUUID(): string {
  const bytes = new Uint8Array(host().random(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40; // RFC 9562 §5.4
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

async function digest(algorithm: unknown, data: ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer> {
  const name = domString(
    typeof algorithm === 'object' && algorithm !== null ? Reflect.get(algorithm, 'name') : algorithm,
  ).toUpperCase();
  if (!DIGESTS.has(name)) throw new DOMException(`the algorithm ${name} is not supported`, 'NotSupportedError');
  const bytes = bytesOf(data).slice();
  return callHost<ArrayBuffer>((id) => host().digest(id, name, bytes.buffer as ArrayBuffer));
}

export const crypto = { getRandomValues, randomUUID, subtle: { digest } };
