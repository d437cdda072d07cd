import type { z } from 'zod';
import { CfnError, openSealed, resourceInfo, RESOURCE_BYTES_MAX, type putResourceSchema } from '../../proto/index.ts';
import type { KmsDeps } from '../deps.ts';
import { wrapResource } from '../namespace-key.ts';
import type { ResourceKey } from '../store.ts';

/**
 * Stores a resource that its owner sealed to this KMS; one of the same name is replaced, terms and all.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when it does not open, or is empty or too long; `CFN_QUOTA_EXCEEDED`
 */
export async function putResource(
  key: ResourceKey,
  { sealed, terms }: z.infer<typeof putResourceSchema>,
  deps: KmsDeps,
): Promise<void> {
  const content = await openSealed(deps.sealingKey.privateKey, sealed, resourceInfo(key.owner, key.type, key.tag));
  try {
    if (content.length === 0 || content.length > RESOURCE_BYTES_MAX)
      throw new CfnError(
        'CFN_INPUT_INVALID',
        `the resource has ${content.length} bytes, expected 1 to ${RESOURCE_BYTES_MAX}`,
      );
    const storedAt = deps.now().getTime();
    const bytes = content.length;
    for (;;) {
      const wrapped = await wrapResource(content, key, deps);
      // False: once more, under the new version of the namespace key.
      if (await deps.store.putResource({ ...key, ...wrapped, bytes, terms, storedAt })) return;
    }
  } finally {
    content.fill(0);
  }
}
