import type { Store } from '../store/index.ts';
import type { View } from './view.ts';

/** What each request asks, in views of their own: keys are few, manifests are large. */
export interface Views {
  readonly known: View;
  readonly keys: View;
  readonly models: View;
}

/**
 * The shared store as requests see it: what they ask each time is answered from the view. Subjects are named as the store's scripts
 * name what they change.
 */
export function sharedStore(store: Store, { known, keys, models }: Views): Store {
  return {
    ...store,
    hasTenant: async (name) =>
      (await known.get(`tenant ${name}`, async () => (await store.hasTenant(name)) || undefined)) === true,
    // Only the tenants of deployed functions are asked for: that they have no limits is as good to know as which.
    limits: async (tenant) =>
      (await known.get(`limits ${tenant}`, async () => (await store.limits(tenant)) ?? null)) ?? undefined,
    key: (id) => keys.get(`key ${id}`, () => store.key(id)),
    currentDeployment: (tenant, name) =>
      known.get(`function ${tenant}/${name}`, () => store.currentDeployment(tenant, name)),
    model: (reference) => models.get(`model ${reference}`, () => store.model(reference)),
    async consents(subjects) {
      if (subjects === undefined) return store.consents();
      const said = await Promise.all(
        subjects.map((subject) =>
          known.get(`consent ${subject}`, async () => (await store.consents([subject])).get(subject) ?? null),
        ),
      );
      return new Map(subjects.flatMap((subject, i) => (said[i] == null ? [] : [[subject, said[i]]])));
    },

    // What this gateway changed it sees at once.
    async addTenant(tenant) {
      await store.addTenant(tenant).finally(() => known.drop(`tenant ${tenant.name}`));
    },
    setLimits: (tenant, limits) => store.setLimits(tenant, limits).finally(() => known.drop(`limits ${tenant}`)),
    addKey: (record) => store.addKey(record).finally(() => keys.drop(`key ${record.id}`)),
    removeKey: (id, tenant) => store.removeKey(id, tenant).finally(() => keys.drop(`key ${id}`)),
    addModel: (record, manifest) =>
      store.addModel(record, manifest).finally(() => models.drop(`model ${record.model}`)),
    addVersion: (version, deployedAt) =>
      store.addVersion(version, deployedAt).finally(() => known.drop(`function ${version.tenant}/${version.name}`)),
    addDeployment: (deployment, after) =>
      store
        .addDeployment(deployment, after)
        .finally(() => known.drop(`function ${deployment.tenant}/${deployment.name}`)),
    setConsent: (subject, admitted) =>
      store.setConsent(subject, admitted).finally(() => known.drop(`consent ${subject}`)),
  };
}
