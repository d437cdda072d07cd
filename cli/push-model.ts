import { writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { httpBlobStore, MODEL_ENTRY, sealModel } from '../artifacts/index.ts';
import {
  CfnError,
  dataKeyInfo,
  digestSchema,
  kmsInfoSchema,
  modelReferenceSchema,
  parseModelPackage,
  sealTo,
  type Grant,
  type ModelPackage,
} from '../proto/index.ts';
import { apiClient, kmsApi, type Api } from './api.ts';
import type { Cli } from './context.ts';
import { modelPath } from './deploy-project.ts';
import { need, tokenTenant, type Settings } from './settings.ts';

export interface PushedModel {
  readonly model: string;
  /** Of the package manifest: what functions pin. */
  readonly digest: string;
  /** Plaintext bytes of all files. */
  readonly bytes: number;
  readonly kms: string;
}

/**
 * Encrypts a model here, gives the ciphertext to the gateway's blob store and the data key, sealed, to the KMS.
 * The catalogue comes last: what it lists is complete.
 *
 * @param model owner/name@version
 * @param files the entry first; the others are its external data, under their own names
 */
export async function pushModel(
  {
    model,
    files,
    keeper,
  }: {
    readonly model: string;
    readonly files: readonly { readonly path: string; readonly source: string }[];
    readonly keeper?: KeyKeeper | undefined;
  },
  settings: Settings,
  cli: Cli,
): Promise<PushedModel> {
  const { context, output } = cli;
  demandReference(model);
  const owner = tokenTenant(need(settings, 'token'));
  if (owner !== undefined && !model.startsWith(`${owner}/`))
    throw new CfnError('CFN_TOKEN_SCOPE', `the token is of tenant ${owner}, the model is ${model}`);
  const gateway = gatewayApi(settings, cli);
  if (await isListed(gateway, model)) {
    // Each push has a fresh key, so the same file pushed again would be another package.
    throw new CfnError('CFN_CONFLICT', `${model} is in the catalogue already`);
  }
  const kept = keeper === undefined ? await atKms(settings, cli) : inFile(keeper);

  const store = httpBlobStore({
    url: `${need(settings, 'gateway').replace(/\/+$/, '')}/v1/blobs`,
    token: need(settings, 'token'),
    fetch: context.fetch,
  });
  const sealing = output.step(`encrypting ${model} here and storing the ciphertext`);
  const { manifestBytes, digest, dataKey } = await sealModel({
    model,
    files,
    kms: kept.kms,
    store,
    onProgress: ({ path, step, bytesDone, bytesTotal }) =>
      sealing.update(`${path}, ${step} ${percent(bytesDone, bytesTotal)}`),
  });
  sealing.done();
  try {
    const giving = output.step(kept.step);
    await kept.give(dataKey, digest, model);
    giving.done();
  } finally {
    dataKey.fill(0);
  }
  await gateway.json('POST', '/v1/models', z.object({ digest: z.literal(digest) }), manifestBytes);
  const { files: sealed } = await parseModelPackage(manifestBytes);
  return { model, digest, bytes: sealed.reduce((sum, { bytes }) => sum + bytes, 0), kms: kept.kms.url };
}

/** A key broker of others, who is given the key by hand. */
export interface KeyKeeper {
  /** See `parseKbsUrl`. */
  readonly url: string;
  readonly keyFile: string;
}

/** Where a data key goes. */
interface Kept {
  readonly kms: ModelPackage['kms'];
  readonly step: string;
  readonly give: (dataKey: Uint8Array, digest: string, model: string) => Promise<void>;
}

async function atKms(settings: Settings, { context }: Cli): Promise<Kept> {
  const kms = kmsApi(settings, context);
  const { publicKey } = await kms.json('GET', '/v1/info', kmsInfoSchema);
  return {
    kms: { url: need(settings, 'kms'), publicKey },
    step: 'giving the data key to the KMS, sealed to it',
    async give(dataKey, digest, model) {
      const sealedKey = await sealTo(publicKey, dataKey, dataKeyInfo(digest));
      await kms.json('PUT', `/v1/models/${digest}`, z.object({ digest: z.literal(digest) }), { model, sealedKey });
    },
  };
}

function inFile({ url, keyFile }: KeyKeeper): Kept {
  return {
    kms: { url },
    step: 'writing the data key to its file',
    give: (dataKey) =>
      writeFile(keyFile, dataKey, { mode: 0o600, flag: 'wx' }).catch((cause: unknown) => {
        throw new CfnError('CFN_USAGE', `--key-out: cannot make ${keyFile}`, { cause });
      }),
  };
}

/** Lets a function use a model: the KMS then releases its key to attested workers that run it. */
export async function grantModel(
  model: string,
  grant: Grant,
  settings: Settings,
  cli: Cli,
): Promise<{ model: string; digest: string; grant: Grant }> {
  demandReference(model);
  const { bytes } = await gatewayApi(settings, cli).bytes(modelPath(model));
  const found = await parseModelPackage(bytes);
  if (found.model !== model) throw new CfnError('CFN_ARTIFACT_ALTERED', `the gateway gave ${found.model} for ${model}`);
  const answerSchema = z.looseObject({});
  await kmsApi(settings, cli.context).json('PUT', `/v1/models/${found.digest}/grants`, answerSchema, grant);
  return { model, digest: found.digest, grant };
}

/** Whether the catalogue has the model. */
export async function isListed(gateway: Api, model: string): Promise<boolean> {
  const listSchema = z.object({ models: z.array(z.object({ model: z.string(), digest: digestSchema })) });
  const { models } = await gateway.json('GET', '/v1/models', listSchema);
  return models.some((listed) => listed.model === model);
}

/** The first file is the entry, the others keep their names. */
export function packageFiles(
  sources: readonly string[],
  nameOf: (source: string) => string,
): { path: string; source: string }[] {
  return sources.map((source, index) => ({ path: index === 0 ? MODEL_ENTRY : nameOf(source), source }));
}

export function gatewayApi(settings: Settings, { context }: Cli): Api {
  const { fetch, ended } = context;
  return apiClient({
    service: 'gateway',
    url: need(settings, 'gateway'),
    token: need(settings, 'token'),
    fetch,
    signal: ended,
  });
}

function demandReference(model: string): void {
  if (!modelReferenceSchema.safeParse(model).success) {
    throw new CfnError('CFN_USAGE', `model: expected owner/name@version in lower case, have ${model.slice(0, 200)}`);
  }
}

const percent = (done: number, total: number): string => `${total === 0 ? 100 : Math.floor((100 * done) / total)} %`;
