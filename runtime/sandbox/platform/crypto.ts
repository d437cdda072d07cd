import { DOMException } from './dom-exception.ts';
import { host } from './host.ts';
import { QuotaExceededError } from './quota-exceeded-error.ts';
import { subtle, type SubtleCrypto } from './subtle-crypto.ts';
import { bytesOf } from './utf8.ts';
import { needArguments } from './web-idl.ts';

const RANDOM_BYTES_MAX = 65_536; // Web Cryptography API §10.1.1
const INTEGERS = /^(Big)?(Int|Uint)(8|16|32|64)(Clamped)?Array$/;
// oxlint-disable-next-line typescript/unbound-method -- it is applied
const { get: kindOf } = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
) as { get(): string | undefined };

/** Marks the constructor call of our own; nobody outside has it. */
const OURS = Object.freeze({});

export class Crypto {
  readonly #ours = true;
  constructor(...incoming: unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
  }
  get subtle(): SubtleCrypto {
    void this.#ours; // throws for another `this`
    return subtle;
  }
  getRandomValues<T extends ArrayBufferView>(view: T): T {
    void this.#ours;
    needArguments(arguments.length, 1, 'getRandomValues');
    if (!INTEGERS.test(Reflect.apply(kindOf, view, []) ?? ''))
      throw new DOMException('getRandomValues needs an array of integers', 'TypeMismatchError');
    if (view.byteLength > RANDOM_BYTES_MAX) throw new QuotaExceededError(`at most ${RANDOM_BYTES_MAX} bytes at once`);
    bytesOf(view).set(new Uint8Array(host().random(view.byteLength)));
    return view;
  }
  randomUUID(): string {
    void this.#ours;
    const bytes = new Uint8Array(host().random(16));
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40; // RFC 9562 §5.4
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
}
export const crypto = new Crypto(OURS);
