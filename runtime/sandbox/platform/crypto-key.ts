import type { KeyInfo } from '../services/cryptography.ts';

export type KeyUsage = 'encrypt' | 'decrypt' | 'sign' | 'verify' | 'deriveKey' | 'deriveBits' | 'wrapKey' | 'unwrapKey';
export const KEY_USAGES: readonly KeyUsage[] = [
  'encrypt',
  'decrypt',
  'sign',
  'verify',
  'deriveKey',
  'deriveBits',
  'wrapKey',
  'unwrapKey',
];
export interface KeyAlgorithm {
  readonly name: string;
  readonly hash?: { readonly name: string };
  readonly namedCurve?: string;
  readonly length?: number;
  readonly modulusLength?: number;
  readonly publicExponent?: Uint8Array;
}
export interface KeySlots {
  readonly info: Pick<KeyInfo, 'key' | 'type' | 'length'>;
  /** The function sees `CryptoKey.algorithm`, which it may change; this one it does not. */
  readonly algorithm: KeyAlgorithm;
  readonly extractable: boolean;
  readonly usages: readonly KeyUsage[];
}

/** Marks constructor calls of our own; nobody outside has it. */
const OURS = Object.freeze({});
let slotsOf!: (key: CryptoKey) => KeySlots;
let isCryptoKey!: (value: unknown) => value is CryptoKey;
export const makeKey = (slots: KeySlots): CryptoKey => new CryptoKey(OURS, slots);
export { slotsOf, isCryptoKey };

/** Web Cryptography API §13. The material is in the process; here is its number. */
export class CryptoKey {
  readonly #slots: KeySlots;
  #algorithm: object | undefined;
  #usages: readonly KeyUsage[] | undefined;

  static {
    slotsOf = (key) => key.#slots;
    isCryptoKey = (value): value is CryptoKey => typeof value === 'object' && value !== null && #slots in value;
  }
  constructor(...incoming: unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
    this.#slots = incoming[1] as KeySlots;
  }
  get type(): string {
    return this.#slots.info.type;
  }
  get extractable(): boolean {
    return this.#slots.extractable;
  }
  get algorithm(): object {
    if (this.#algorithm === undefined) {
      const { algorithm } = this.#slots;
      this.#algorithm = { ...algorithm };
      if (algorithm.hash !== undefined) Object.assign(this.#algorithm, { hash: { ...algorithm.hash } });
      if (algorithm.publicExponent !== undefined)
        Object.assign(this.#algorithm, { publicExponent: algorithm.publicExponent.slice() });
    }
    return this.#algorithm;
  }
  get usages(): readonly KeyUsage[] {
    return (this.#usages ??= [...this.#slots.usages]);
  }
}
