import type { Store } from '../store/index.ts';
import type { View } from './view.ts';

/**
 * The shared store as requests see it: what they ask each time is answered from the view. Subjects are named as the store's scripts
 * name what they change.
 */
export function sharedStore(store: Store, known: View, models: View): Store {
  return {
    ...store,
    hasTenant: (name) => known.get(`tenant ${name}`, () => store.hasTenant(name)),
    currentDeployment: (tenant, name) =>
      known.get(`function ${tenant}/${name}`, () => store.currentDeployment(tenant, name)),
    model: (reference) => models.get(`model ${reference}`, () => store.model(reference)),
    async consents(subjects) {
      if (subjects === undefined) return store.consents();
      const said = await Promise.all(
        subjects.map((subject) =>
          known.get(`consent ${subject}`, async () => (await store.consents([subject])).get(subject)),
        ),
      );
      return new Map(subjects.flatMap((subject, i) => (said[i] === undefined ? [] : [[subject, said[i]]])));
    },

    // What this gateway changed it sees at once.
    async addTenant(tenant) {
      await store.addTenant(tenant).finally(() => known.drop(`tenant ${tenant.name}`));
    },
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
