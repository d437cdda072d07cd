import { CfnError, resourceTermsSchema, type ResourceTerms } from '../proto/index.ts';
import type { Database } from './database.ts';
import { RESOURCES_MAX } from './limits.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import type { ResourceKey, ResourceStore, StoredResource } from './store.ts';

const OF_KEY = 'owner = :owner AND type = :type AND tag = :tag';

/** What owners keep for clients of the key broker protocol. */
export function sqliteResources({ run, all, one, transact, read }: Database, { note }: AuditWriter): ResourceStore {
  const find = ({ owner, type, tag }: ResourceKey): StoredResource | undefined =>
    all<ResourceRow>(`SELECT * FROM resources WHERE ${OF_KEY}`, { owner, type, tag }).map(parseResource)[0];

  return {
    putResource: ({ owner, type, tag, wrapped, bytes, keyVersion, terms, storedAt }) =>
      transact(() => {
        const newest = one<{ version?: number }>(
          'SELECT max(version) AS version FROM namespace_keys WHERE owner = :owner',
          { owner },
        );
        if (newest?.version !== keyVersion) return false;
        const others = one<{ count: number }>(
          `SELECT count(*) AS count FROM resources WHERE owner = :owner AND NOT (${OF_KEY})`,
          { owner, type, tag },
        );
        if ((others?.count ?? 0) >= RESOURCES_MAX)
          throw new CfnError(
            'CFN_QUOTA_EXCEEDED',
            `the namespace has ${RESOURCES_MAX} resources, the most it may have`,
          );
        run(
          'INSERT OR REPLACE INTO resources VALUES (:owner, :type, :tag, :wrapped, :bytes, :keyVersion, :terms, :storedAt)',
          {
            owner,
            type,
            tag,
            wrapped,
            bytes,
            keyVersion,
            terms: JSON.stringify(terms),
            storedAt,
          },
        );
        note(owner, { at: iso(storedAt), decision: 'resource-stored', subject: `${type}/${tag}` });
        return true;
      }),
    resource: (key) => read(() => find(key)),
    resources: (owner) =>
      read(() =>
        all<ResourceRow>('SELECT * FROM resources WHERE owner = :owner ORDER BY type, tag', { owner }).map(
          parseResource,
        ),
      ),
    removeResource: ({ owner, type, tag }, at) =>
      transact(() => {
        if (run(`DELETE FROM resources WHERE ${OF_KEY}`, { owner, type, tag }) === 0) return false;
        note(owner, { at: iso(at), decision: 'resource-removed', subject: `${type}/${tag}` });
        return true;
      }),
    noteResourceReleased: (resource, client, at) =>
      transact(() => {
        const { owner, type, tag, storedAt, terms } = resource;
        const now = find(resource);
        if (now?.storedAt !== storedAt || JSON.stringify(now.terms) !== JSON.stringify(terms)) return false;
        note(owner, { at: iso(at), decision: 'resource-released', worker: client, subject: `${type}/${tag}` });
        return true;
      }),
  };
}

interface ResourceRow extends Omit<StoredResource, 'terms'> {
  readonly terms: string;
}
const parseResource = ({ terms, ...row }: ResourceRow): StoredResource => ({
  ...row,
  terms: resourceTermsSchema.parse(JSON.parse(terms)) satisfies ResourceTerms,
});
const iso = (at: number): string => new Date(at).toISOString();
