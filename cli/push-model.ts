import { z } from 'zod';
import { httpBlobStore, MODEL_ENTRY, sealModel, type SealedModel, type SealProgress } from '../artifacts/index.ts';
import { CfnError, digestSchema, modelReferenceSchema, parseModelPackage, type Grant } from '../proto/index.ts';
import { apiClient, kmsApi, type Api } from './api.ts';
import type { Cli } from './context.ts';
import { modelPath } from './deploy-project.ts';
import { kmsKeeper, type KeyKeeper } from './key-keeper.ts';
import type { Step } from './output.ts';
import { progressBar } from './progress-bar.ts';
import { pushState, type PushState } from './push-state.ts';
import { need, tokenTenant, type Settings } from './settings.ts';

/** How often the bar is drawn anew, in ms. */
const PROGRESS_MS = 100;

export interface PushedModel {
  readonly model: string;
  /** Of the package manifest: what functions pin. */
  readonly digest: string;
  /** Plaintext bytes of all files. */
  readonly bytes: number;
  readonly kms: string;
}

/**
 * Encrypts a model here, gives the ciphertext to the gateway's blob store and the data key to its keeper.
 * The catalogue comes last: what it lists is complete. A push that broke off goes on where it did when it is asked for again.
 *
 * @param model owner/name@version
 * @param files the entry first; the others are its external data, under their own names
 * @param keeper of the data key; the KMS of the settings, unless given
 * @param startOver forgets a push that broke off
 * @throws {CfnError} `CFN_CONFLICT` when the catalogue has the model; `CFN_INPUT_INVALID` when a file changed since the push broke off
 */
export async function pushModel(
  {
    model,
    files,
    keeper,
    startOver = false,
  }: {
    readonly model: string;
    readonly files: readonly { readonly path: string; readonly source: string }[];
    readonly keeper?: KeyKeeper | undefined;
    readonly startOver?: boolean;
  },
  settings: Settings,
  cli: Cli,
): Promise<PushedModel> {
  demandReference(model);
  const owner = tokenTenant(need(settings, 'token'));
  if (owner !== undefined && !model.startsWith(`${owner}/`))
    throw new CfnError('CFN_TOKEN_SCOPE', `the token is of tenant ${owner}, the model is ${model}`);
  const gateway = gatewayApi(settings, cli);
  const { kms, step, give, secret } = keeper ?? (await kmsKeeper(settings, cli));
  const state = pushState([model, need(settings, 'gateway'), kms.url], secret, cli.context);
  if (startOver) await state.remove();
  const begun = await state.read();
  try {
    const listed = await listedDigest(gateway, model);
    if (listed !== undefined && listed !== begun?.digest) {
      // Each push has a fresh key, so the same file pushed again would be another package.
      throw new CfnError('CFN_CONFLICT', `${model} is in the catalogue already`);
    }
    const sealed = await sealAndStore({ model, files, kms, begun, state }, settings, cli);
    try {
      const giving = cli.output.step(step);
      await give(sealed.dataKey, sealed.digest, model);
      giving.done();
    } finally {
      sealed.dataKey.fill(0);
    }
    await gateway.json('POST', '/v1/models', z.object({ digest: z.literal(sealed.digest) }), sealed.manifestBytes);
    await state.remove();
    const { files: stored } = await parseModelPackage(sealed.manifestBytes);
    return { model, digest: sealed.digest, bytes: stored.reduce((sum, { bytes }) => sum + bytes, 0), kms: kms.url };
  } finally {
    begun?.dataKey.fill(0);
  }
}

async function sealAndStore(
  options: Pick<Parameters<typeof sealModel>[0], 'model' | 'files' | 'kms' | 'begun'> & { readonly state: PushState },
  settings: Settings,
  { context, output }: Cli,
): Promise<SealedModel> {
  const { model, begun, state } = options;
  if (begun !== undefined) output.note(`going on with the push of ${model} that broke off; --start-over forgets it`);
  const titles = { sealing: `encrypting ${model}`, storing: `storing ${model}` };
  let current: { readonly name: keyof typeof titles; readonly step: Step; readonly startMs: number } | undefined;
  let shownMs = -PROGRESS_MS;
  const onProgress = ({ step, bytesDone, bytesTotal }: SealProgress): void => {
    const nowMs = context.monotonicMs();
    if (current?.name !== step) {
      current?.step.done();
      current = { name: step, step: output.step(titles[step]), startMs: nowMs };
    }
    if (nowMs - shownMs < PROGRESS_MS && bytesDone < bytesTotal) return;
    shownMs = nowMs;
    current.step.update(progressBar(bytesDone, bytesTotal, nowMs - current.startMs));
  };
  const store = httpBlobStore({
    url: `${need(settings, 'gateway').replace(/\/+$/, '')}/v1/blobs`,
    token: need(settings, 'token'),
    fetch: (url, init) => context.fetch(url, { ...init, signal: anyOf(context.ended, init?.signal) }),
  });
  const sealed = await sealModel({ ...options, store, beforeStoring: (made) => state.write(made), onProgress });
  current?.step.done();
  return sealed;
}

const anyOf = (ended: AbortSignal, other: AbortSignal | null | undefined): AbortSignal =>
  other ? AbortSignal.any([ended, other]) : ended;

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

/** The digest under which the catalogue has the model, if it does. */
export async function listedDigest(gateway: Api, model: string): Promise<string | undefined> {
  const listSchema = z.object({ models: z.array(z.object({ model: z.string(), digest: digestSchema })) });
  const { models } = await gateway.json('GET', '/v1/models', listSchema);
  return models.find((listed) => listed.model === model)?.digest;
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
