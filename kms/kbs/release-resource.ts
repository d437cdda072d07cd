import { CfnError, encryptResource, toCfnError, type KbsJwe } from '../../proto/index.ts';
import { unmetDemands } from '../demands.ts';
import type { KmsDeps } from '../deps.ts';
import { DEFAULT_QUOTAS } from '../limits.ts';
import { unwrapResource } from '../namespace-key.ts';
import type { ResourceKey, StoredResource } from '../store.ts';
import type { AttestedSession } from './sessions.ts';

/**
 * Releases a resource to an attested client, encrypted to the key that its evidence bound. Every outcome is in the audit log.
 *
 * @throws {CfnError} `CFN_GRANT_MISSING` when there is none, or the client was appraised by another policy than its owner's;
 *   `CFN_GRANT_UNMET`; `CFN_BUSY`; what the root key throws. A caller is to be told the first two in the same words.
 */
export async function releaseResource(key: ResourceKey, to: AttestedSession, deps: KmsDeps): Promise<KbsJwe> {
  const resource = await deps.store.resource(key);
  try {
    if (resource === undefined) throw unavailable('there is no such resource');
    await demandTerms(resource, to, deps);
    const jwe = await encryptTo(resource, to, deps);
    // On the disk before it is out; and not, when it was removed or its terms changed meanwhile.
    const at = deps.now().getTime();
    if (!(await deps.store.noteResourceReleased(resource, to.client, at)))
      throw unavailable('it was changed meanwhile');
    return jwe;
  } catch (error) {
    const subject = `${key.type}/${key.tag}`;
    await deps.refusals.note(resource?.owner ?? '', toCfnError(error).code, { worker: to.client, subject });
    throw error;
  }
}

async function demandTerms({ owner, terms }: StoredResource, to: AttestedSession, deps: KmsDeps): Promise<void> {
  if (Date.parse(terms.until) <= deps.now().getTime()) throw unavailable('its time is over');
  if ((await deps.policies.of(owner)).digest !== to.policy)
    throw unavailable('the client was appraised by another policy than the one of this namespace');
  const unmet =
    to.tee !== 'sample'
      ? unmetDemands(terms, { tee: to.tee, claims: to.claims })
      : terms.insecureSample === true
        ? []
        : ['evidence that somebody signed'];
  if (unmet.length > 0) throw new CfnError('CFN_GRANT_UNMET', `the owner's terms demand ${unmet.join(', ')}`);
  const { quotas = DEFAULT_QUOTAS } = (await deps.store.owner(owner)) ?? {};
  if (!deps.rates.take(owner, quotas.releasesPerMinute))
    throw new CfnError('CFN_BUSY', `the namespace has had ${quotas.releasesPerMinute} releases this minute`);
}

async function encryptTo(resource: StoredResource, { teePubkey }: AttestedSession, deps: KmsDeps): Promise<KbsJwe> {
  const content = await unwrapResource(resource, deps);
  try {
    return await encryptResource(content, teePubkey);
  } finally {
    content.fill(0);
  }
}

const unavailable = (why: string): CfnError => new CfnError('CFN_GRANT_MISSING', why);
