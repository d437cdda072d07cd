import { createHash } from 'node:crypto';
import { CfnError, concatBytes, equalBytes } from '../proto/index.ts';
import { readCredential } from './credential.ts';
import { bool, CKA, CKR, loadPkcs11, Pkcs11Error, ulong, type Pkcs11 } from './pkcs11.ts';
import { parsePkcs11Uri, type Pkcs11Uri } from './pkcs11-uri.ts';
import { versionBytes, versionOf } from './root-key-file.ts';
import type { RootKey, RootKeyDeps } from './root-key.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const CKO_SECRET_KEY = 4;
const CKK_AES = 0x1f;
const VERSIONS_MAX = 1000;
/** An HSM that takes longer counts as gone, in ms. */
const ANSWER_MS_MAX = 10_000;

/** A session that is logged in, and the versions of the key in it. */
interface Connection {
  readonly session: bigint;
  readonly keys: Map<number, bigint>;
}

/**
 * A root key in an HSM, made there and never outside of it: AES-256, sensitive, not extractable. Each wrapping is AES-GCM in the HSM,
 * with a nonce of ours: u32be version ‖ nonce (12) ‖ ciphertext ‖ tag (16). Versions are keys of one label, told apart by CKA_ID.
 *
 * @throws {CfnError} `CFN_USAGE`; `CFN_ROOT_KEY_UNREACHABLE` when module, token or key is not there; `CFN_ROOT_KEY_REFUSED` for a
 *   wrong PIN; `CFN_SECRET_EXPOSED` when the key could leave the HSM, or ever could
 */
export async function openPkcs11RootKey(text: string, deps: RootKeyDeps): Promise<RootKey> {
  const uri = parsePkcs11Uri(text);
  const pkcs11 = load(uri.modulePath);
  const pinOf = pinSource(uri, deps);
  let connection: Connection | undefined;
  let lost = false;
  let last: Promise<unknown> = Promise.resolve();

  /**
   * Runs `work` when all before it is done, on a session that works: one that does not is given up, and a new one tried once. So
   * the HSM may go and come back.
   */
  function withSession<T>(work: (on: Connection) => Promise<T>): Promise<T> {
    async function attempt(): Promise<T> {
      try {
        return await work((connection ??= await connect(pkcs11, uri, pinOf, lost)));
      } catch (error) {
        if (error instanceof CfnError && error.code !== 'CFN_ROOT_KEY_UNREACHABLE') throw error;
        connection = undefined;
        lost = true;
        throw error instanceof CfnError ? error : unreachable(`the HSM failed: ${(error as Error).message}`, error);
      }
    }
    const answered = last.then(() =>
      attempt().catch((error: CfnError) => {
        if (error.code !== 'CFN_ROOT_KEY_UNREACHABLE') throw error;
        return attempt();
      }),
    );
    last = answered.catch(() => undefined);
    return within(answered);
  }

  const newest = ({ keys }: Connection): number => Math.max(0, ...keys.keys());
  async function keyOf(on: Connection, version: number): Promise<bigint> {
    if (!on.keys.has(version)) await readKeys(pkcs11, uri, on); // another process may have made it
    const key = on.keys.get(version);
    if (key === undefined)
      throw new CfnError('CFN_KEYRING_ALTERED', `a wrapped key names version ${version}, which the HSM does not hold`);
    return key;
  }
  async function wrapOn(on: Connection, secret: Uint8Array, context: Uint8Array): Promise<Uint8Array> {
    const version = newest(on);
    const nonce = deps.randomBytes(NONCE_BYTES);
    const message = { nonce, data: secret, associated: context };
    return concatBytes(
      versionBytes(version),
      nonce,
      await pkcs11.encrypt(on.session, await keyOf(on, version), message),
    );
  }
  async function unwrapOn(on: Connection, wrapped: Uint8Array, context: Uint8Array): Promise<Buffer> {
    const nonce = wrapped.subarray(4, 4 + NONCE_BYTES);
    const message = { nonce, data: wrapped.subarray(4 + NONCE_BYTES), associated: context };
    if (message.data.length < 16) throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key is cut short');
    const key = await keyOf(on, versionOf(wrapped));
    try {
      return await pkcs11.decrypt(on.session, key, message);
    } catch (error) {
      // HSMs have many words for a wrong tag, some of them their words for a failure. One that opens what it wrapped just now has not failed.
      const probe = { nonce: deps.randomBytes(NONCE_BYTES), data: deps.randomBytes(KEY_BYTES), associated: context };
      const data = await pkcs11.encrypt(on.session, key, probe);
      if (!equalBytes(await pkcs11.decrypt(on.session, key, { ...probe, data }), probe.data)) throw error;
      throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key does not open under the root key', { cause: error });
    }
  }
  async function rotate(on: Connection): Promise<number> {
    await readKeys(pkcs11, uri, on);
    const version = newest(on) + 1;
    await makeKey(pkcs11, uri, on, version);
    await readKeys(pkcs11, uri, on);
    return newest(on);
  }

  await withSession(async (on) => {
    if (on.keys.size > 0) return;
    if (!deps.mayMake) throw unreachable(`the HSM holds no key ${uri.object}, but a keyring exists`);
    await rotate(on);
  });

  return {
    kind: 'pkcs11',
    wrap: (secret, context) => withSession((on) => wrapOn(on, secret, context)),
    unwrap: (wrapped, context) => withSession((on) => unwrapOn(on, wrapped, context)),
    rewrap: (wrapped, context) =>
      withSession(async (on) => {
        const secret = await unwrapOn(on, wrapped, context);
        try {
          return await wrapOn(on, secret, context);
        } finally {
          secret.fill(0);
        }
      }),
    version: () => withSession(async (on) => newest(on)),
    versionOf,
    rotate: () => withSession(rotate),
    async close() {
      await last;
      if (connection !== undefined) await pkcs11.closeSession(connection.session).catch(() => undefined); // it is gone already
      connection = undefined;
    },
  };
}

function load(path: string): Pkcs11 {
  try {
    return loadPkcs11(path);
  } catch (cause) {
    throw unreachable(`cannot load the PKCS#11 module ${path}`, cause);
  }
}

/** @param anew starts the module anew, which ends all its sessions: some notice only then that a token came back */
async function connect(pkcs11: Pkcs11, uri: Pkcs11Uri, pinOf: PinSource, anew: boolean): Promise<Connection> {
  if (anew) await pkcs11.finalize().catch(() => undefined); // it may not have been initialised
  await tolerate(pkcs11.initialize(), CKR.CRYPTOKI_ALREADY_INITIALIZED);
  const tokens = (await pkcs11.tokens()).filter(
    (info) =>
      (uri.slotId === undefined || uri.slotId === info.slotId) &&
      Object.entries(uri.token).every(([name, value]) => info[name as keyof typeof uri.token] === value),
  );
  const [found, ...others] = tokens;
  if (found === undefined) throw unreachable('no slot has the token that the URI names');
  if (others.length > 0)
    throw new CfnError('CFN_USAGE', `the URI names ${tokens.length} tokens; add serial=… or slot-id=…`);
  const session = await pkcs11.openSession(found.slotId);
  await pinOf.login((pin) => tolerate(pkcs11.login(session, pin), CKR.USER_ALREADY_LOGGED_IN));
  const connection = { session, keys: new Map<number, bigint>() };
  await readKeys(pkcs11, uri, connection);
  return connection;
}

async function readKeys(pkcs11: Pkcs11, uri: Pkcs11Uri, { session, keys }: Connection): Promise<void> {
  const [kind, type, label] = [ulong(CKO_SECRET_KEY), ulong(CKK_AES), Buffer.from(uri.object)];
  const template = [
    [CKA.CLASS, kind],
    [CKA.KEY_TYPE, type],
    [CKA.LABEL, label],
  ] as const;
  keys.clear();
  for (const key of await pkcs11.findObjects(session, template, VERSIONS_MAX)) {
    const flag = async (attribute: number): Promise<boolean> =>
      (await pkcs11.attribute(session, key, attribute, 1))[0] === 1;
    const id = await pkcs11.attribute(session, key, CKA.ID, 64);
    if (id.length !== 4)
      throw new CfnError('CFN_USAGE', `the HSM has a key ${uri.object} that this service did not make`);
    // Made in the HSM, and at no time allowed to leave it.
    if (!(await flag(CKA.ALWAYS_SENSITIVE)) || !(await flag(CKA.NEVER_EXTRACTABLE)))
      throw new CfnError('CFN_SECRET_EXPOSED', `the key ${uri.object} in the HSM could leave it, or once could`);
    if (keys.has(versionOf(id))) throw new CfnError('CFN_USAGE', `the HSM has two keys ${uri.object} of one version`);
    keys.set(versionOf(id), key);
  }
}

async function makeKey(pkcs11: Pkcs11, uri: Pkcs11Uri, { session }: Connection, version: number): Promise<void> {
  const [yes, no, length] = [bool(true), bool(false), ulong(KEY_BYTES)];
  const [label, id] = [Buffer.from(uri.object), Buffer.from(versionBytes(version))];
  await pkcs11.generateAesKey(session, [
    [CKA.TOKEN, yes],
    [CKA.PRIVATE, yes],
    [CKA.SENSITIVE, yes],
    [CKA.EXTRACTABLE, no],
    [CKA.ENCRYPT, yes],
    [CKA.DECRYPT, yes],
    [CKA.VALUE_LEN, length],
    [CKA.LABEL, label],
    [CKA.ID, id],
  ]);
}

interface PinSource {
  login(work: (pin: Buffer) => Promise<void>): Promise<void>;
}

/** A PIN that was refused is not tried again until it changes: tokens lock themselves after a few. */
function pinSource(uri: Pkcs11Uri, deps: RootKeyDeps): PinSource {
  let refused: Buffer | undefined;
  return {
    async login(work) {
      const pin = uri.pinFile === undefined ? deps.credential() : readCredential(uri.pinFile, {});
      if (pin === undefined) throw new CfnError('CFN_ROOT_KEY_REFUSED', 'there is no PIN for the HSM');
      const digest = createHash('sha256').update(pin).digest();
      try {
        if (refused !== undefined && equalBytes(refused, digest))
          throw new CfnError('CFN_ROOT_KEY_REFUSED', 'the HSM has refused this PIN before');
        await work(pin);
        refused = undefined;
      } catch (error) {
        if (!(error instanceof Pkcs11Error) || error.result < CKR.PIN_INCORRECT || error.result > CKR.PIN_LOCKED)
          throw error;
        refused = digest;
        throw new CfnError('CFN_ROOT_KEY_REFUSED', `the HSM does not take the PIN: ${error.message}`, { cause: error });
      } finally {
        pin.fill(0);
      }
    },
  };
}

async function tolerate(work: Promise<void>, result: number): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof Pkcs11Error && error.result === result)) throw error;
  }
}

/** The call itself cannot be ended; whoever waits is told. */
function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unreachable(`the HSM did not answer for ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

const unreachable = (what: string, cause?: unknown): CfnError =>
  new CfnError('CFN_ROOT_KEY_UNREACHABLE', what, { cause });
