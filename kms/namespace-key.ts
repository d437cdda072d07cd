import { createSecretKey, type KeyObject } from 'node:crypto';
import { CfnError, frame, utf8 } from '../proto/index.ts';
import { unwrapUnder, wrapUnder } from './aead.ts';
import type { KmsDeps } from './deps.ts';
import type { RootKey } from './root-key.ts';
import { secretContext } from './secrets.ts';
import type { ResourceKey, StoredFunctionSecret, StoredModel, StoredNamespaceKey, StoredResource } from './store.ts';

// Three levels: the root key wraps one key for each namespace, that wraps the owner's data keys, and these encrypt weights. So each
// owner's data keys are under a key of their own, both upper levels can be replaced without the weights being encrypted anew, and no
// key is opened without the HSM or transit service, where there is one: a namespace key is in memory for one call.

const KEY_BYTES = 32;

type KeyDeps = Pick<KmsDeps, 'store' | 'rootKey' | 'randomBytes' | 'now'>;
type ModelId = Pick<StoredModel, 'digest' | 'owner' | 'model'>;

/** A row moved to another owner or version does not open. */
const namespaceContext = (owner: string, version: number): Uint8Array =>
  frame('cfn/kms-namespace-key/v1', utf8(owner), utf8(String(version)));
/** A row moved to another model, owner or reference does not open. */
const dataKeyContext = ({ digest, owner, model }: ModelId): Uint8Array =>
  frame('cfn/kms-data-key/v2', utf8(digest), utf8(owner), utf8(model));

/** A row moved to another function, name, author or version does not open. */
const secretOf = ({ id, name, author, version }: SecretPlace): Uint8Array =>
  frame('cfn/kms-function-secret/v1', utf8(id), utf8(name), utf8(author), utf8(version ?? ''));
type SecretPlace = Pick<StoredFunctionSecret, 'id' | 'name' | 'author'> & { readonly version?: string | undefined };
const resourceContext = ({ owner, type, tag }: ResourceKey): Uint8Array =>
  frame('cfn/kms-resource/v1', utf8(owner), utf8(type), utf8(tag));

/** A new version of an owner's namespace key, wrapped. */
export async function makeNamespaceKey(
  owner: string,
  version: number,
  { rootKey, randomBytes, now }: Omit<KeyDeps, 'store'>,
): Promise<{ readonly stored: StoredNamespaceKey; readonly key: KeyObject }> {
  const bytes = Buffer.from(randomBytes(KEY_BYTES));
  try {
    const wrapped = await rootKey.wrap(bytes, namespaceContext(owner, version));
    return { stored: { owner, version, wrapped, madeAt: now().getTime() }, key: createSecretKey(bytes) };
  } finally {
    bytes.fill(0);
  }
}

/** Wraps a data key under the newest version of its owner's namespace key. @throws {CfnError} what the root key throws */
export async function wrapDataKey(
  dataKey: Uint8Array,
  model: ModelId,
  deps: KeyDeps,
): Promise<{ readonly wrappedKey: Uint8Array; readonly keyVersion: number }> {
  const { wrapped, keyVersion } = await wrapFor(model.owner, dataKey, dataKeyContext(model), deps);
  return { wrappedKey: wrapped, keyVersion };
}

/** Wraps a resource as {@link wrapDataKey} does a data key. */
export function wrapResource(
  content: Uint8Array,
  resource: ResourceKey,
  deps: KeyDeps,
): Promise<Pick<StoredResource, 'wrapped' | 'keyVersion'>> {
  return wrapFor(resource.owner, content, resourceContext(resource), deps);
}

async function wrapFor(
  owner: string,
  content: Uint8Array,
  context: Uint8Array,
  deps: KeyDeps,
): Promise<Pick<StoredResource, 'wrapped' | 'keyVersion'>> {
  const newest = await newestOf(owner, deps);
  const key = await openNamespaceKey(newest, deps.rootKey);
  return { wrapped: wrapUnder(key, content, context, deps.randomBytes), keyVersion: newest.version };
}

/** @returns the data key, to be overwritten by the caller @throws {CfnError} `CFN_KEYRING_ALTERED`, what the root key throws */
export async function unwrapDataKey(model: StoredModel, deps: KeyDeps): Promise<Buffer> {
  return unwrapUnder(await keyOf(model, deps), model.wrappedKey, dataKeyContext(model));
}

/** Wraps values of a function's secrets, by name, under the newest version of their owner's namespace key. */
export async function wrapFunctionSecrets(
  owner: string,
  place: Omit<SecretPlace, 'name'>,
  values: ReadonlyMap<string, Uint8Array>,
  deps: KeyDeps,
): Promise<{ readonly keyVersion: number; readonly wrapped: [name: string, bytes: Uint8Array][] }> {
  const newest = await newestOf(owner, deps);
  const key = await openNamespaceKey(newest, deps.rootKey);
  const wrapped = [...values].map(([name, value]): [string, Uint8Array] => [
    name,
    wrapUnder(key, value, secretOf({ ...place, name }), deps.randomBytes),
  ]);
  return { keyVersion: newest.version, wrapped };
}

/** @returns the values by name, to be overwritten by the caller @throws {CfnError} as {@link unwrapDataKey} */
export async function unwrapFunctionSecrets(
  owner: string,
  secrets: readonly StoredFunctionSecret[],
  deps: KeyDeps,
): Promise<Map<string, Uint8Array>> {
  const values = new Map<string, Uint8Array>();
  const [first] = secrets;
  if (first === undefined) return values;
  const key = await keyOf({ owner, keyVersion: first.keyVersion }, deps);
  for (const secret of secrets) {
    values.set(secret.name, unwrapUnder(key, secret.wrapped, secretOf(secret)));
  }
  return values;
}

/** @returns the resource, to be overwritten by the caller @throws {CfnError} as {@link unwrapDataKey} */
export async function unwrapResource(resource: StoredResource, deps: KeyDeps): Promise<Buffer> {
  return unwrapUnder(await keyOf(resource, deps), resource.wrapped, resourceContext(resource));
}

async function keyOf(
  { owner, keyVersion }: Pick<StoredModel, 'owner' | 'keyVersion'>,
  deps: KeyDeps,
): Promise<KeyObject> {
  const stored = (await deps.store.namespaceKeys(owner)).find(({ version }) => version === keyVersion);
  if (stored === undefined || stored.wrapped.length === 0)
    throw new CfnError('CFN_KEYRING_ALTERED', `the keyring has no version ${keyVersion} of a namespace key`);
  return openNamespaceKey(stored, deps.rootKey);
}

/**
 * Makes a new version of an owner's namespace key, and wraps all their data keys and secrets under it. Leases go on; what they hold are data keys.
 *
 * @returns the new version, and how many data keys it wraps
 * @throws {CfnError} `CFN_CONFLICT` when another rotation came first; `CFN_KEYRING_ALTERED`; what the root key throws
 */
export async function rotateNamespaceKey(
  owner: string,
  deps: KeyDeps,
): Promise<{ readonly version: number; readonly models: number }> {
  const before = await newestOf(owner, deps);
  const old = await openNamespaceKey(before, deps.rootKey);
  const { stored, key } = await makeNamespaceKey(owner, before.version + 1, deps);
  const rewrap = (wrapped: Uint8Array, context: Uint8Array): Uint8Array => {
    const content = unwrapUnder(old, wrapped, context);
    try {
      return wrapUnder(key, content, context, deps.randomBytes);
    } finally {
      content.fill(0);
    }
  };
  const models = await deps.store.rotateNamespaceKey(
    stored,
    (row) => ('wrappedKey' in row ? rewrap(row.wrappedKey, dataKeyContext(row)) : rewrap(row.wrapped, secretOf(row))),
    (resource) => rewrap(resource.wrapped, resourceContext(resource)),
  );
  if (models === undefined)
    throw new CfnError('CFN_CONFLICT', 'the namespace key was rotated by another call meanwhile');
  return { version: stored.version, models };
}

/**
 * Makes a new version of the root key, and wraps everything under it that it wraps. A kill in between leaves some under the old version,
 * which opens them as before.
 */
export async function rotateRootKey(deps: KeyDeps): Promise<{ readonly version: number; readonly keys: number }> {
  const { store, rootKey, now } = deps;
  const version = await rootKey.rotate();
  const wrapped = [
    ...(await store.secrets()).map((key) => ({ key, context: secretContext(key.name, key.publicKey) })),
    ...(await store.namespaceKeys())
      .filter((key) => key.wrapped.length > 0)
      .map((key) => ({ key, context: namespaceContext(key.owner, key.version) })),
  ];
  const changes = [];
  for (const { key, context } of wrapped) changes.push({ key, wrapped: await rootKey.rewrap(key.wrapped, context) });
  await store.rewrapAll(changes, version, now().getTime());
  return { version, keys: changes.length };
}

async function newestOf(owner: string, { store }: KeyDeps): Promise<StoredNamespaceKey> {
  const newest = (await store.namespaceKeys(owner)).at(-1);
  if (newest === undefined) throw new CfnError('CFN_KEYRING_ALTERED', 'the keyring has no key of this namespace');
  return newest;
}

async function openNamespaceKey({ owner, version, wrapped }: StoredNamespaceKey, rootKey: RootKey): Promise<KeyObject> {
  const bytes = await rootKey.unwrap(wrapped, namespaceContext(owner, version));
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}
