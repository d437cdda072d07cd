import type { z } from 'zod';
import { CfnError, dataKeyInfo, equalBytes, openSealed, type putKeySchema } from '../proto/index.ts';
import type { KmsDeps } from './deps.ts';
import { DATA_KEY_BYTES } from './limits.ts';
import { unwrapDataKey, wrapDataKey } from './namespace-key.ts';

type PutKey = z.infer<typeof putKeySchema>;
type ModelDeps = Pick<KmsDeps, 'store' | 'now' | 'rootKey' | 'randomBytes' | 'sealingKey'>;

/**
 * Stores a data key that its owner sealed to this KMS.
 *
 * @returns false when the same key is stored already
 * @throws {CfnError} `CFN_TOKEN_SCOPE` when the model is another owner's; `CFN_INPUT_INVALID` when the sealed key does not open
 *   or is no AES-256 key; `CFN_CONFLICT` when the digest has another key or reference already; `CFN_WITHDRAWN`; `CFN_QUOTA_EXCEEDED`
 */
export async function putModel(
  digest: string,
  owner: string,
  { model, sealedKey }: PutKey,
  deps: ModelDeps,
): Promise<boolean> {
  if (model.split('/', 1)[0] !== owner)
    throw new CfnError('CFN_TOKEN_SCOPE', `the token is of owner ${owner}, the model is ${model}`);
  const dataKey = await openDataKey(digest, model, sealedKey, deps);
  try {
    const id = { digest, owner, model };
    const storedAt = deps.now().getTime();
    for (;;) {
      const outcome = await deps.store.addModel({ ...id, ...(await wrapDataKey(dataKey, id, deps)), storedAt });
      if (outcome === 'added') return true;
      if (outcome === 'present') break; // `stale`: once more, under the new version of the namespace key
    }
    const present = await deps.store.model(digest, owner);
    if (present?.withdrawnAt !== undefined) throw withdrawn();
    const presentKey = present && (await unwrapDataKey(present, deps));
    const same = present?.model === model && presentKey !== undefined && equalBytes(presentKey, dataKey);
    presentKey?.fill(0);
    if (!same) throw new CfnError('CFN_CONFLICT', `model ${digest} is stored already, with another key or reference`);
    return false;
  } finally {
    dataKey.fill(0);
  }
}

async function openDataKey(
  digest: string,
  model: string,
  sealedKey: PutKey['sealedKey'],
  { sealingKey }: ModelDeps,
): Promise<Uint8Array> {
  const dataKey = await openSealed(sealingKey.privateKey, sealedKey, dataKeyInfo(digest, model));
  if (dataKey.length === DATA_KEY_BYTES) return dataKey;
  dataKey.fill(0);
  throw new CfnError('CFN_INPUT_INVALID', `sealedKey holds ${dataKey.length} bytes, expected ${DATA_KEY_BYTES}`);
}

export const withdrawn = (): CfnError => new CfnError('CFN_WITHDRAWN', 'the owner has withdrawn this model version');
