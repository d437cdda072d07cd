import { writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { CfnError, dataKeyInfo, kmsInfoSchema, sealTo, type ModelPackage } from '../proto/index.ts';
import { kmsApi } from './api.ts';
import type { Cli } from './context.ts';
import { need, type Settings } from './settings.ts';

/** Where the data key of a model goes. */
export interface KeyKeeper {
  /** As the model's package names it. */
  readonly kms: ModelPackage['kms'];
  /** What is done, in words. */
  readonly step: string;
  readonly give: (dataKey: Uint8Array, digest: string, model: string) => Promise<void>;
  /** A secret of the owner's, under which a push that broke off keeps the key. */
  readonly secret: string;
}

/** Our KMS: gets the key sealed to it. */
export async function kmsKeeper(settings: Settings, { context }: Cli): Promise<KeyKeeper> {
  const kms = kmsApi(settings, context);
  const { publicKey } = await kms.json('GET', '/v1/info', kmsInfoSchema);
  return {
    kms: { url: need(settings, 'kms'), publicKey },
    step: 'giving the data key to the KMS, sealed to it',
    async give(dataKey, digest, model) {
      const sealedKey = await sealTo(publicKey, dataKey, dataKeyInfo(digest, model));
      await kms.json('PUT', `/v1/models/${digest}`, z.object({ digest: z.literal(digest) }), { model, sealedKey });
    },
    secret: need(settings, 'kmsToken'),
  };
}

/**
 * A key broker of others, who is given the key by hand.
 *
 * @param url see `parseKbsUrl`
 * @param keyFile made with mode 0600; must not be there yet
 */
export function fileKeeper(url: string, keyFile: string, settings: Settings): KeyKeeper {
  return {
    kms: { url },
    step: 'writing the data key to its file',
    give: (dataKey) =>
      writeFile(keyFile, dataKey, { mode: 0o600, flag: 'wx' }).catch((cause: unknown) => {
        throw new CfnError('CFN_USAGE', `--key-out: cannot make ${keyFile}`, { cause });
      }),
    secret: need(settings, 'token'),
  };
}
