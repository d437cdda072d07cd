import koffi from 'koffi';

// The part of PKCS#11 2.40 that a root key needs, over a module's C ABI on 64-bit Linux: CK_ULONG and pointers have 8 bytes, little-endian.

/** A PKCS#11 function did not return CKR_OK. */
export class Pkcs11Error extends Error {
  readonly result: number;

  constructor(name: string, result: number) {
    super(`${name} returned 0x${result.toString(16)}`);
    this.result = result;
  }
}

/** Return values that somebody acts on. */
export const CKR = {
  PIN_INCORRECT: 0xa0,
  PIN_LOCKED: 0xa4,
  USER_ALREADY_LOGGED_IN: 0x100,
  CRYPTOKI_ALREADY_INITIALIZED: 0x191,
} as const;

/** CKA_… */
export const CKA = {
  CLASS: 0x0,
  TOKEN: 0x1,
  PRIVATE: 0x2,
  LABEL: 0x3,
  KEY_TYPE: 0x100,
  ID: 0x102,
  SENSITIVE: 0x103,
  ENCRYPT: 0x104,
  DECRYPT: 0x105,
  VALUE_LEN: 0x161,
  EXTRACTABLE: 0x162,
  NEVER_EXTRACTABLE: 0x164,
  ALWAYS_SENSITIVE: 0x165,
} as const;
const CKM = { AES_KEY_GEN: 0x1080, AES_GCM: 0x1087 } as const;
const CKF_OS_LOCKING_OK = 2;
const CKF_RW_SERIAL_SESSION = 6;
const CKU_USER = 1;
const TAG_BYTES = 16;

/** Index in CK_FUNCTION_LIST and argument types of each function used. `ulong` holds handles, flags and counts. */
const FUNCTIONS = {
  C_Initialize: [0, ['void *']],
  C_Finalize: [1, ['void *']],
  C_GetSlotList: [4, ['uint8', 'void *', 'void *']],
  C_GetTokenInfo: [6, ['uint64', 'void *']],
  C_OpenSession: [12, ['uint64', 'uint64', 'void *', 'void *', 'void *']],
  C_CloseSession: [13, ['uint64']],
  C_Login: [18, ['uint64', 'uint64', 'void *', 'uint64']],
  C_GetAttributeValue: [24, ['uint64', 'uint64', 'void *', 'uint64']],
  C_FindObjectsInit: [26, ['uint64', 'void *', 'uint64']],
  C_FindObjects: [27, ['uint64', 'void *', 'uint64', 'void *']],
  C_FindObjectsFinal: [28, ['uint64']],
  C_EncryptInit: [29, ['uint64', 'void *', 'uint64']],
  C_Encrypt: [30, ['uint64', 'void *', 'uint64', 'void *', 'void *']],
  C_DecryptInit: [33, ['uint64', 'void *', 'uint64']],
  C_Decrypt: [34, ['uint64', 'void *', 'uint64', 'void *', 'void *']],
  C_GenerateKey: [58, ['uint64', 'void *', 'void *', 'uint64', 'void *']],
} as const;
const FUNCTION_COUNT = 68;

type Argument = bigint | number | Buffer | null;
type NativeFunction = { async(...parameters: unknown[]): void };
export type Attribute = readonly [type: number, value: Buffer];

export interface TokenInfo {
  readonly slotId: bigint;
  readonly token: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
}

/** Calls run on other threads, so that a slow HSM does not stop the service. One session does one thing at a time: the caller waits in between. */
export interface Pkcs11 {
  initialize(): Promise<void>;
  finalize(): Promise<void>;
  /** Of all slots with a token. */
  tokens(): Promise<readonly TokenInfo[]>;
  openSession(slotId: bigint): Promise<bigint>;
  closeSession(session: bigint): Promise<void>;
  login(session: bigint, pin: Buffer): Promise<void>;
  findObjects(session: bigint, template: readonly Attribute[], countMax: number): Promise<readonly bigint[]>;
  attribute(session: bigint, object: bigint, type: number, bytesMax: number): Promise<Buffer>;
  generateAesKey(session: bigint, template: readonly Attribute[]): Promise<bigint>;
  /** AES-GCM. @returns ciphertext ‖ tag (16) */
  encrypt(session: bigint, key: bigint, message: GcmMessage): Promise<Buffer>;
  decrypt(session: bigint, key: bigint, message: GcmMessage): Promise<Buffer>;
}

export interface GcmMessage {
  readonly nonce: Uint8Array;
  readonly data: Uint8Array;
  readonly associated: Uint8Array;
}

/** Loads a module. @throws {Error} when it cannot be loaded, or is none */
export function loadPkcs11(path: string): Pkcs11 {
  const functions = bind(path);

  /** Another thread reads and writes the buffers: they must live until the call is over. */
  const underWay = new Set<readonly Argument[]>();
  const call = (name: keyof typeof FUNCTIONS, ...parameters: Argument[]): Promise<void> =>
    new Promise((resolve, reject) => {
      underWay.add(parameters);
      functions[name].async(...parameters, (error: Error | null, result: number | bigint) => {
        underWay.delete(parameters);
        if (error !== null) reject(error);
        else if (Number(result) !== 0) reject(new Pkcs11Error(name, Number(result)));
        else resolve();
      });
    });

  async function crypt(
    direction: 'Encrypt' | 'Decrypt',
    session: bigint,
    key: bigint,
    { nonce, data, associated }: GcmMessage,
  ): Promise<Buffer> {
    const [iv, aad, input] = [Buffer.from(nonce), Buffer.from(associated), Buffer.from(data)];
    const parameters = words(iv, iv.length, iv.length * 8, aad, aad.length, TAG_BYTES * 8);
    const mechanism = words(CKM.AES_GCM, parameters, parameters.length);
    await call(`C_${direction}Init`, session, mechanism, key);
    const output = Buffer.alloc(input.length + TAG_BYTES);
    const length = words(output.length);
    try {
      await call(`C_${direction}`, session, input, input.length, output, length);
      return Buffer.from(output.subarray(0, Number(length.readBigUInt64LE())));
    } finally {
      for (const used of [iv, aad, parameters, input, output]) used.fill(0); // after the calls: until then the module reads them
    }
  }

  return {
    initialize: () => call('C_Initialize', words(0, 0, 0, 0, CKF_OS_LOCKING_OK, 0)),
    finalize: () => call('C_Finalize', null),
    async tokens() {
      const count = words(0);
      await call('C_GetSlotList', 1, null, count);
      const slots = Buffer.alloc(Number(count.readBigUInt64LE()) * 8);
      if (slots.length === 0) return [];
      await call('C_GetSlotList', 1, slots, count);
      const found: TokenInfo[] = [];
      for (let at = 0; at < Number(count.readBigUInt64LE()); at++) {
        const slotId = slots.readBigUInt64LE(at * 8);
        const info = Buffer.alloc(256); // CK_TOKEN_INFO has 208
        await call('C_GetTokenInfo', slotId, info);
        const text = (from: number, to: number): string => info.toString('utf8', from, to).trimEnd();
        found.push({
          slotId,
          token: text(0, 32),
          manufacturer: text(32, 64),
          model: text(64, 80),
          serial: text(80, 96),
        });
      }
      return found;
    },
    async openSession(slotId) {
      const session = words(0);
      await call('C_OpenSession', slotId, CKF_RW_SERIAL_SESSION, null, null, session);
      return session.readBigUInt64LE();
    },
    closeSession: (session) => call('C_CloseSession', session),
    login: (session, pin) => call('C_Login', session, CKU_USER, pin, pin.length),
    async findObjects(session, template, countMax) {
      await call('C_FindObjectsInit', session, templateOf(template), template.length);
      const [handles, count] = [Buffer.alloc(countMax * 8), words(0)];
      try {
        await call('C_FindObjects', session, handles, countMax, count);
      } finally {
        await call('C_FindObjectsFinal', session);
      }
      return Array.from({ length: Number(count.readBigUInt64LE()) }, (_, at) => handles.readBigUInt64LE(at * 8));
    },
    async attribute(session, object, type, bytesMax) {
      const value = Buffer.alloc(bytesMax);
      const template = templateOf([[type, value]]);
      await call('C_GetAttributeValue', session, object, template, 1);
      return value.subarray(0, Number(template.readBigUInt64LE(16)));
    },
    async generateAesKey(session, template) {
      const key = words(0);
      await call('C_GenerateKey', session, words(CKM.AES_KEY_GEN, 0, 0), templateOf(template), template.length, key);
      return key.readBigUInt64LE();
    },
    encrypt: (session, key, message) => crypt('Encrypt', session, key, message),
    decrypt: (session, key, message) => crypt('Decrypt', session, key, message),
  };
}

/** CK_ULONG as the value of an attribute. */
export const ulong = (value: number): Buffer => words(value);
/** CK_BBOOL. */
export const bool = (value: boolean): Buffer => Buffer.of(value ? 1 : 0);

function bind(path: string): Record<keyof typeof FUNCTIONS, NativeFunction> {
  const getFunctionList = koffi.load(path).func('C_GetFunctionList', 'uint64', ['void *']) as (out: Buffer) => number;
  const out = words(0);
  const result = getFunctionList(out);
  if (result !== 0) throw new Pkcs11Error('C_GetFunctionList', result);
  // CK_VERSION, padded to 8 bytes, then the pointers.
  const list = Buffer.from(koffi.view(out.readBigUInt64LE(), (1 + FUNCTION_COUNT) * 8));
  const bound = Object.entries(FUNCTIONS).map(([name, [index, types]]) => {
    const pointer = list.readBigUInt64LE((1 + index) * 8);
    return [name, koffi.decode(pointer, koffi.proto('uint64', [...types])) as NativeFunction];
  });
  return Object.fromEntries(bound) as Record<keyof typeof FUNCTIONS, NativeFunction>;
}

/** What a packed pointer points to lives as long as the bytes that hold the pointer. */
const pointedTo = new WeakMap<Buffer, readonly (number | Buffer)[]>();

/** A C struct of CK_ULONGs and pointers; a pointer to nothing is NULL. */
function words(...values: (number | Buffer)[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [at, value] of values.entries()) bytes.writeBigUInt64LE(wordOf(value), at * 8);
  pointedTo.set(bytes, values);
  return bytes;
}
function wordOf(value: number | Buffer): bigint {
  if (typeof value === 'number') return BigInt(value);
  return value.length === 0 ? 0n : koffi.address(value);
}

/** CK_ATTRIBUTE for each: type, pointer, length. */
const templateOf = (attributes: readonly Attribute[]): Buffer =>
  words(...attributes.flatMap(([type, value]) => [type, value, value.length]));
