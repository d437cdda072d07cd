import { CfnError, secretsId, verifyManifest, verifyWithdrawal } from '../proto/index.ts';
import type { KmsDeps } from './deps.ts';
import { covers } from './grants.ts';
import { grantMissing } from './leases.ts';

type Deps = Pick<KmsDeps, 'store' | 'now'>;

/**
 * Withdraws a function version, as its author says: nothing is released to it again, and its leases end. Only where a grant or a secret names that
 * author: otherwise anybody could sign the same manifest, and withdraw what is not theirs, or fill the disk.
 *
 * @returns how many leases were revoked
 * @throws {CfnError} `CFN_MANIFEST_ALTERED`; `CFN_GRANT_MISSING`, the same where there is no such model
 */
export async function withdrawFunction(
  { functionManifest, statement }: { readonly functionManifest: string; readonly statement: string },
  { store, now }: Deps,
): Promise<number> {
  const use = await verifyManifest(functionManifest);
  await verifyWithdrawal(statement, use);
  const at = now().getTime();
  // Each once: anybody can ask, with a manifest that names one model often, and its grants are many.
  const models = new Map(
    use.manifest.models.map(({ digest, model }) => {
      const owner = model.split('/', 1)[0] ?? '';
      return [`${owner}/${digest}`, { digest, owner }];
    }),
  );
  for (const { digest, owner } of models.values()) {
    const grants = await store.grants(digest, owner);
    // A grant that ended names the author as well as one that did not.
    if (grants.some(({ grant }) => grant.author === use.author && covers(grant, use, 0)))
      return store.withdrawFunction({ version: use.version, author: use.author, statement, at });
  }
  const { secrets, tenant, name } = use.manifest;
  if (secrets !== undefined) {
    const set = await store.functionSecrets(await secretsId(secrets.owner, tenant, name));
    if (set?.secrets.some(({ author }) => author === use.author) === true)
      return store.withdrawFunction({ version: use.version, author: use.author, statement, at });
  }
  throw grantMissing();
}

/**
 * Withdraws a model version: its data key is forgotten, and its leases end.
 *
 * @returns how many leases were revoked
 * @throws {CfnError} `CFN_MODEL_NOT_FOUND`
 */
export async function withdrawModel(digest: string, owner: string, { store, now }: Deps): Promise<number> {
  const revoked = await store.withdrawModel(digest, owner, now().getTime());
  if (revoked === undefined) throw new CfnError('CFN_MODEL_NOT_FOUND', `${owner} has stored no key of model ${digest}`);
  return revoked;
}
