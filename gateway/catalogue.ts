import { CfnError, verifyManifest, type SignedManifest } from '../proto/index.ts';
import { MANIFEST_CACHE_MAX } from './limits.ts';
import type { Store } from './store/index.ts';

/** A version that gets requests. */
export interface DeployedVersion {
  readonly version: string;
  readonly percent: number;
  readonly signed: SignedManifest;
}

/** What a function has deployed now. */
export interface Deployed {
  readonly tenant: string;
  readonly name: string;
  /** Of the deployment. */
  readonly id: number;
  /** Never empty; the one that gets most first. */
  readonly versions: readonly [DeployedVersion, ...DeployedVersion[]];
}

/** Finds what is deployed. Manifests never change under their version, so each is verified once and kept parsed. */
export interface Catalogue {
  /** @throws {CfnError} `CFN_TENANT_NOT_FOUND`, `CFN_FUNCTION_NOT_FOUND` */
  deployed(tenant: string, name: string): Promise<Deployed>;
  /** A version of the function, deployed or not. @throws {CfnError} `CFN_FUNCTION_NOT_FOUND` */
  version(tenant: string, name: string, version: string): Promise<SignedManifest>;
  /** Any version that the store has. */
  known(version: string): Promise<SignedManifest | undefined>;
}

export function catalogue(store: Pick<Store, 'currentDeployment' | 'hasTenant' | 'version'>): Catalogue {
  const parsed = new Map<string, SignedManifest>();

  async function manifest(version: string): Promise<SignedManifest | undefined> {
    const known = parsed.get(version);
    if (known !== undefined) return known;
    const stored = await store.version(version);
    if (stored === undefined) return undefined;
    const signed = await verifyManifest(stored.jws);
    if (signed.version !== version)
      throw new CfnError('CFN_MANIFEST_ALTERED', 'the stored manifest has another version');
    if (parsed.size >= MANIFEST_CACHE_MAX) parsed.delete(parsed.keys().next().value ?? '');
    parsed.set(version, signed);
    return signed;
  }

  return {
    async deployed(tenant, name) {
      const found = await store.currentDeployment(tenant, name);
      if (found === undefined) {
        if (!(await store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
        throw new CfnError('CFN_FUNCTION_NOT_FOUND', `tenant ${tenant} has no function ${name}`);
      }
      const versions: DeployedVersion[] = [];
      for (const { version, percent } of found.versions) {
        const signed = await manifest(version);
        if (signed === undefined) throw new CfnError('CFN_STORE_FAILED', `version ${version} is not in the store`);
        // Whoever can write into the store could also put one tenant's function in another's place.
        if (signed.manifest.tenant !== tenant || signed.manifest.name !== name)
          throw new CfnError('CFN_MANIFEST_ALTERED', 'the stored manifest is of another function');
        versions.push({ version, percent, signed });
      }
      const [first, ...others] = versions.toSorted((a, b) => b.percent - a.percent);
      if (first === undefined) throw new CfnError('CFN_STORE_FAILED', `deployment ${found.id} has no version`);
      return { tenant, name, id: found.id, versions: [first, ...others] };
    },
    async version(tenant, name, version) {
      const signed = await manifest(version);
      if (signed?.manifest.tenant !== tenant || signed.manifest.name !== name)
        throw new CfnError('CFN_FUNCTION_NOT_FOUND', `${tenant}/${name} has no version ${version.slice(0, 64)}`);
      return signed;
    },
    known: manifest,
  };
}
