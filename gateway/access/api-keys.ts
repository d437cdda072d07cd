import { createHash, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { CfnError, toHex } from '../../proto/index.ts';
import { KEYS_PER_TENANT_MAX } from '../limits.ts';
import type { Log } from '../log.ts';
import type { ApiKeyRecord, Store } from '../store/index.ts';
import { TENANT_ROLES, type Caller, type Role, type TenantRole } from './roles.ts';

/** `cfn_<id>_<secret><checksum>`: 8, 32 and 4 bytes as hexadecimal. The checksum lets scanners of leaked secrets tell a key from noise. */
const FORM = /^cfn_([0-9a-f]{16})_([0-9a-f]{64})([0-9a-f]{8})$/;
const HOUR_MS = 60 * 60_000;

/** What is no longer one of our keys in form is still not given to the parsers of other tokens. */
export const isApiKey = (bearer: string): boolean => bearer.startsWith('cfn_');

/** SHA-256 is enough to keep a secret of 256 random bits: there is nothing to guess, so nothing to slow down. */
const digestOf = (key: string): Buffer => createHash('sha256').update(key).digest();
const checksumOf = (text: string): string => crc32(text).toString(16).padStart(8, '0');

/** Keys that a tenant or operator made, each with a role. They can be revoked, and are kept as hashes alone. */
export interface ApiKeys {
  /** Makes a key; its text is given this once. @throws {CfnError} `CFN_QUOTA_EXCEEDED` at {@link KEYS_PER_TENANT_MAX} */
  make(wanted: NewApiKey): Promise<{ readonly record: ApiKeyRecord; readonly key: string }>;
  /** @throws {CfnError} `CFN_TOKEN_INVALID`, the same for one unknown, wrong, revoked or expired */
  verify(key: string): Promise<Caller>;
  /** From here on it is refused by this gateway, by others as soon as their view of the store says so (docs/decisions/0008). `false`: there is none, or not in this scope. */
  revoke(id: string, tenant?: string): Promise<boolean>;
}

export interface NewApiKey {
  readonly name: string;
  readonly role: Role;
  /** With the roles of a tenant. */
  readonly tenant?: string | undefined;
  readonly expiresAt?: string | undefined;
}

export function apiKeys(deps: {
  readonly store: Pick<Store, 'addKey' | 'key' | 'keys' | 'removeKey' | 'keyUsed'>;
  readonly now: () => Date;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
}): ApiKeys {
  const { store, now, randomBytes, log } = deps;
  /** Keys of which it was written that they were used in this hour. */
  const written = { hour: '', ids: new Set<string>() };

  /** Kept to the hour: enough to find keys that nobody uses, and no diary of their users. */
  function used(record: ApiKeyRecord): void {
    const hour = new Date(Math.floor(now().getTime() / HOUR_MS) * HOUR_MS).toISOString();
    if (written.hour !== hour) {
      written.hour = hour;
      written.ids.clear();
    }
    if (record.usedAt === hour || written.ids.has(record.id)) return;
    written.ids.add(record.id);
    store.keyUsed(record.id, hour).catch(() => {
      written.ids.delete(record.id);
      log('key.use-unwritten', { key: record.id });
    });
  }

  return {
    async make({ name, role, tenant, expiresAt }) {
      const held = (await store.keys(tenant)).filter((one) => one.tenant === tenant).length;
      if (held >= KEYS_PER_TENANT_MAX)
        throw new CfnError('CFN_QUOTA_EXCEEDED', `there are ${held} keys, the most there may be; revoke some`);
      const id = toHex(randomBytes(8));
      const text = `cfn_${id}_${toHex(randomBytes(32))}`;
      const key = text + checksumOf(text);
      const record: ApiKeyRecord = {
        id,
        name,
        role,
        createdAt: now().toISOString(),
        digest: new Uint8Array(digestOf(key)),
        ...(tenant === undefined ? {} : { tenant }),
        ...(expiresAt === undefined ? {} : { expiresAt }),
      };
      await store.addKey(record);
      return { record, key };
    },
    async verify(key) {
      const [, id = '', secret = '', checksum] = FORM.exec(key) ?? [];
      const record = checksum === checksumOf(`cfn_${id}_${secret}`) ? await store.key(id) : undefined;
      const { expiresAt } = record ?? {};
      if (
        record === undefined ||
        !timingSafeEqual(record.digest, digestOf(key)) ||
        (expiresAt !== undefined && now().getTime() >= Date.parse(expiresAt))
      ) {
        throw new CfnError('CFN_TOKEN_INVALID', 'the API key is not one of this gateway, was revoked, or has expired');
      }
      used(record);
      return callerOf(record);
    },
    revoke: (id, tenant) => store.removeKey(id, tenant),
  };
}

/** A record of a role that is not of this version, or of a tenant's without a tenant, is no caller. */
function callerOf({ id, role, tenant }: ApiKeyRecord): Caller {
  const sub = `key ${id}`;
  if (role === 'operator' || role === 'worker') return { role, sub };
  if (isTenantRole(role) && tenant !== undefined) return { role, sub, tenant };
  throw new CfnError('CFN_TOKEN_INVALID', 'the API key has a role that this gateway does not know');
}

const isTenantRole = (role: string): role is TenantRole => (TENANT_ROLES as readonly string[]).includes(role);
