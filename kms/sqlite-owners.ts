import { CfnError, quotasSchema, type Quotas } from '../proto/index.ts';
import type { Database } from './database.ts';
import { TOKENS_MAX } from './limits.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import type {
  OwnerStore,
  SecretStore,
  StoredFunctionSecret,
  StoredModel,
  StoredNamespaceKey,
  StoredOwner,
  StoredResource,
  StoredSecret,
  StoredToken,
} from './store.ts';

const ADD_TOKEN = 'INSERT INTO tokens VALUES (:id, :owner, :role, :digest, :madeAt)';
const ADD_KEY = 'INSERT INTO namespace_keys VALUES (:owner, :version, :wrapped, :madeAt, NULL)';

/** The KMS's own key pairs. They are read before there is an audit log to write to, as the log's key is one of them. */
export function sqliteSecrets({ run, all, one, transact, read }: Database): SecretStore {
  return {
    secret: (name) => read(() => one<StoredSecret>('SELECT * FROM secrets WHERE name = :name', { name })),
    secrets: () => read(() => all<StoredSecret>('SELECT * FROM secrets ORDER BY name', {})),
    addSecret: (secret) =>
      transact(() => void run('INSERT INTO secrets VALUES (:name, :publicKey, :wrapped)', { ...secret })),
  };
}

/** Owners with their tokens and namespace keys. */
export function sqliteOwners({ run, all, one, transact, read }: Database, { note }: AuditWriter): OwnerStore {
  return {
    addOwner: ({ name, addedAt }, token, { owner, version, wrapped, madeAt }) =>
      transact(() => {
        const sql = 'INSERT INTO owners (name, addedAt) VALUES (:name, :addedAt) ON CONFLICT DO NOTHING';
        if (run(sql, { name, addedAt }) === 0) return false;
        run(ADD_TOKEN, { ...token });
        run(ADD_KEY, { owner, version, wrapped, madeAt });
        note('', { at: iso(addedAt), decision: 'owner-added', owner: name });
        note(name, { at: iso(addedAt), decision: 'owner-added', subject: token.id });
        return true;
      }),
    owner: (name) => read(() => all<OwnerRow>('SELECT * FROM owners WHERE name = :name', { name }).map(parseOwner)[0]),
    owners: () => read(() => all<OwnerRow>('SELECT * FROM owners ORDER BY name', {}).map(parseOwner)),
    setQuotas: (owner, quotas, at) =>
      transact(() => {
        const text = JSON.stringify(quotas);
        if (run('UPDATE owners SET quotas = :text WHERE name = :owner', { owner, text }) === 0) return false;
        note('', { at: iso(at), decision: 'quotas-set', owner, subject: text });
        note(owner, { at: iso(at), decision: 'quotas-set', subject: text });
        return true;
      }),
    setPolicy: (owner, policy, subject, at) =>
      transact(() => {
        run('UPDATE owners SET policy = :policy WHERE name = :owner', { owner, policy: policy ?? null });
        note(owner, { at: iso(at), decision: 'policy-set', subject });
      }),

    tokens: (owner) =>
      read(() => all<StoredToken>('SELECT * FROM tokens WHERE owner = :owner ORDER BY madeAt, id', { owner })),
    addToken: (token) =>
      transact(() => {
        const { owner, id, role, madeAt } = token;
        const { count = 0 } =
          one<{ count: number }>('SELECT count(*) AS count FROM tokens WHERE owner = :owner', { owner }) ?? {};
        if (count >= TOKENS_MAX)
          throw new CfnError('CFN_QUOTA_EXCEEDED', `the namespace has ${TOKENS_MAX} tokens, the most it may have`);
        run(ADD_TOKEN, { ...token });
        note(owner, { at: iso(madeAt), decision: 'token-made', subject: `${id} ${role}` });
      }),
    removeToken: (owner, id, at) =>
      transact(() => {
        const others = one(`SELECT 1 FROM tokens WHERE owner = :owner AND id <> :id AND role = 'admin'`, { owner, id });
        if (others === undefined || run('DELETE FROM tokens WHERE owner = :owner AND id = :id', { owner, id }) === 0)
          return false;
        note(owner, { at: iso(at), decision: 'token-revoked', subject: id });
        return true;
      }),

    namespaceKeys: (owner) =>
      read(() =>
        owner === undefined
          ? all<StoredNamespaceKey>('SELECT * FROM namespace_keys ORDER BY owner, version', {})
          : all<StoredNamespaceKey>('SELECT * FROM namespace_keys WHERE owner = :owner ORDER BY version', { owner }),
      ),
    rotateNamespaceKey: ({ owner, version, wrapped, madeAt }, rewrap, rewrapResource) =>
      transact(() => {
        const newest = one<{ version?: number }>(
          'SELECT max(version) AS version FROM namespace_keys WHERE owner = :owner',
          { owner },
        );
        if (newest?.version !== version - 1) return undefined;
        run(ADD_KEY, { owner, version, wrapped, madeAt });
        const models = all<StoredModel>('SELECT * FROM models WHERE owner = :owner AND withdrawnAt IS NULL', { owner });
        for (const model of models)
          run(
            'UPDATE models SET wrappedKey = :wrappedKey, keyVersion = :version WHERE digest = :digest AND owner = :owner',
            {
              owner,
              digest: model.digest,
              version,
              wrappedKey: rewrap(model),
            },
          );
        const secrets = all<StoredFunctionSecret>(
          'SELECT * FROM function_secrets WHERE id IN (SELECT id FROM secret_sets WHERE owner = :owner)',
          { owner },
        );
        for (const secret of secrets)
          run('UPDATE function_secrets SET wrapped = :wrapped, keyVersion = :version WHERE id = :id AND name = :name', {
            id: secret.id,
            name: secret.name,
            version,
            wrapped: rewrap(secret),
          });
        const resources = all<StoredResource>('SELECT * FROM resources WHERE owner = :owner', { owner });
        for (const resource of resources)
          run(
            'UPDATE resources SET wrapped = :wrapped, keyVersion = :version WHERE owner = :owner AND type = :type AND tag = :tag',
            { owner, type: resource.type, tag: resource.tag, version, wrapped: rewrapResource(resource) },
          );
        run(`UPDATE namespace_keys SET wrapped = x'', retiredAt = :madeAt WHERE owner = :owner AND version = :before`, {
          owner,
          before: version - 1,
          madeAt,
        });
        note(owner, {
          at: iso(madeAt),
          decision: 'keys-rotated',
          subject: `version ${version}, ${models.length} models, ${secrets.length} secrets`,
        });
        return models.length;
      }),
    rewrapAll: (changes, version, at) =>
      transact(() => {
        for (const { key, wrapped } of changes) {
          const before = key.wrapped;
          if ('version' in key)
            run(
              'UPDATE namespace_keys SET wrapped = :wrapped WHERE owner = :owner AND version = :version AND wrapped = :before',
              {
                owner: key.owner,
                version: key.version,
                before,
                wrapped,
              },
            );
          else
            run('UPDATE secrets SET wrapped = :wrapped WHERE name = :name AND wrapped = :before', {
              name: key.name,
              before,
              wrapped,
            });
        }
        note('', { at: iso(at), decision: 'root-rotated', subject: `version ${version}, ${changes.length} keys` });
      }),
  };
}

interface OwnerRow extends Omit<StoredOwner, 'quotas'> {
  readonly quotas?: string;
}
const parseOwner = ({ quotas, ...owner }: OwnerRow): StoredOwner => ({
  ...owner,
  ...(quotas !== undefined && { quotas: quotasSchema.parse(JSON.parse(quotas)) satisfies Quotas }),
});
const iso = (at: number): string => new Date(at).toISOString();
