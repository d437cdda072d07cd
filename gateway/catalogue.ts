import { CfnError, verifyManifest, type SignedManifest } from '../proto/index.ts';
import { MANIFEST_CACHE_MAX } from './limits.ts';
import type { Store } from './store/index.ts';

/** Finds what is deployed. Manifests never change under their version, so each is verified once and kept parsed. */
export interface Catalogue {
  /** @throws {CfnError} `CFN_TENANT_NOT_FOUND`, `CFN_FUNCTION_NOT_FOUND` */
  current(tenant: string, name: string): Promise<SignedManifest>;
}

export function catalogue(store: Pick<Store, 'currentVersion' | 'hasTenant' | 'version'>): Catalogue {
  const parsed = new Map<string, SignedManifest>();
  return {
    async current(tenant, name) {
      const found = await store.currentVersion(tenant, name);
      if (found === undefined) {
        if (!(await store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
        throw new CfnError('CFN_FUNCTION_NOT_FOUND', `tenant ${tenant} has no function ${name}`);
      }
      const known = parsed.get(found.version);
      if (known !== undefined) return known;
      const stored = await store.version(found.version);
      if (stored === undefined) throw new CfnError('CFN_STORE_FAILED', `version ${found.version} is not in the store`);
      const signed = await verifyManifest(stored.jws);
      if (signed.version !== found.version)
        throw new CfnError('CFN_MANIFEST_ALTERED', 'the stored manifest has another version');
      if (parsed.size >= MANIFEST_CACHE_MAX) parsed.delete(parsed.keys().next().value ?? '');
      parsed.set(found.version, signed);
      return signed;
    },
  };
}
