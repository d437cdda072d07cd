import type { KmsDeps } from './deps.ts';
import { LEASES_LISTED_MAX } from './limits.ts';
import { isLive } from './store.ts';

/**
 * The versions of an owner's namespace key: how many data keys each wraps, and how many leases go on that were opened under it.
 *
 * @param owner `undefined`: the administrator, who is told of the root key instead, and how many keys each version of it wraps
 */
export async function listKeys(
  owner: string | undefined,
  { store, rootKey, now }: Pick<KmsDeps, 'store' | 'rootKey' | 'now'>,
): Promise<object> {
  if (owner === undefined) {
    const wrapped = [...(await store.secrets()), ...(await store.namespaceKeys())].filter(
      (key) => key.wrapped.length > 0,
    );
    const byVersion = Map.groupBy(wrapped, (key) => rootKey.versionOf(key.wrapped));
    const versions = [...byVersion]
      .toSorted(([a], [b]) => a - b)
      .map(([version, keys]) => ({ version, keys: keys.length }));
    return { root: { kind: rootKey.kind, version: await rootKey.version() }, versions };
  }
  const at = now().getTime();
  const [keys, models, leases] = [
    await store.namespaceKeys(owner),
    await store.models(owner),
    await store.leases(owner, LEASES_LISTED_MAX),
  ];
  return {
    versions: keys.map(({ version, madeAt, retiredAt }) => ({
      version,
      madeAt: new Date(madeAt).toISOString(),
      ...(retiredAt !== undefined && { retiredAt: new Date(retiredAt).toISOString() }),
      models: models.filter((model) => model.withdrawnAt === undefined && model.keyVersion === version).length,
      leasesLive: leases.filter((lease) => lease.keyVersion === version && isLive(lease, at)).length,
    })),
  };
}
