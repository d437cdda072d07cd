import { CfnError, stickyPoint, VERSION_KEY_CHARS_MAX, versionAt, type SignedManifest } from '../proto/index.ts';
import type { Deployed } from './catalogue.ts';
import type { Random } from './routing/random.ts';

/** What a request in the open says of its version; header fields `cfn-version-override` and `cfn-version-key`. */
export interface VersionWish {
  /** This one, if it is deployed: at 0 % too, so that a version can be tried before anybody else gets it. */
  readonly override: string | undefined;
  /** The same key gets the same version, while that is deployed. */
  readonly key: string | undefined;
}

/**
 * The version for one request in the open: as it wishes, or by chance, as the deployment says.
 *
 * @throws {CfnError} `CFN_VERSION_MISMATCH` for a version that is not deployed
 */
export async function chooseVersion(deployed: Deployed, wish: VersionWish, random: Random): Promise<SignedManifest> {
  if (wish.override !== undefined) return deployedVersion(deployed, wish.override);
  const { versions, tenant, name } = deployed;
  if (versions.length === 1) return versions[0].signed;
  if ((wish.key?.length ?? 0) > VERSION_KEY_CHARS_MAX)
    throw new CfnError('CFN_REQUEST_MALFORMED', `cfn-version-key has more than ${VERSION_KEY_CHARS_MAX} characters`);
  const point = wish.key === undefined ? random() * 100 : await stickyPoint(`${tenant}/${name}`, wish.key);
  return (versionAt(versions, point) ?? versions[0]).signed;
}

/** The version that a sealed request names: its caller has chosen. One that names none was sealed for the one that gets most. */
export function deployedVersion({ versions, tenant, name }: Deployed, version: string | undefined): SignedManifest {
  const found = version === undefined ? versions[0] : versions.find((it) => it.version === version);
  if (found === undefined)
    throw new CfnError('CFN_VERSION_MISMATCH', `${tenant}/${name} has another version deployed than the one asked for`);
  return found.signed;
}
